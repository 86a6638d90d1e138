"""Tar headers are read as tarfile reads them, at a cost that has a limit."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.graphdriver.apply import apply_layer
from shared.protocol import InvalidArgument
from shared.runtime.members import Forward, Member

FIELDS = ("name", "mode", "uid", "gid", "size", "mtime", "type", "linkname", "devmajor", "devminor")
KINDS = (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=200)


@st.composite
def headers(draw: Callable[..., Any]) -> bytes:
    info = tarfile.TarInfo(draw(NAMES))
    info.type, info.linkname = draw(st.sampled_from(KINDS)), draw(NAMES)
    info.mode, info.uid, info.gid = draw(st.integers(0, 0o7777)), draw(st.integers(0, 2**33)), draw(st.integers(0, 9))
    info.size, info.mtime = draw(st.integers(0, 2**40)), draw(st.integers(-5, 2**34))
    info.devmajor, info.devminor = draw(st.integers(0, 4095)), draw(st.integers(0, 2**18))
    data: bytes = info.tobuf(
        draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])), "utf-8", "surrogateescape"
    )
    return data


def read(kind: type[tarfile.TarInfo], block: bytes) -> Any:
    try:
        found = kind.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:  # type: ignore[attr-defined]
        return type(error)
    return {name: getattr(found, name) for name in FIELDS if not name.startswith("dev") or found.isdev()}


@given(headers(), st.lists(st.tuples(st.integers(0, 511), st.integers(0, 255)), max_size=2))
def test_a_header_is_what_tarfile_says(data: bytes, changes: list[tuple[int, int]]) -> None:
    """Also a damaged one, with the checksum that it has or the right one."""
    block = bytearray(data[-512:])
    for place, value in changes:
        block[place] = value
    assert read(Member, bytes(block)) == read(tarfile.TarInfo, bytes(block))
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    assert read(Member, bytes(block)) == read(tarfile.TarInfo, bytes(block))


@given(st.binary(max_size=3000), st.integers(1, 700))
def test_a_stream_gives_what_is_in_it(data: bytes, size: int) -> None:
    stream, taken = Forward(io.BytesIO(data)), b""
    while piece := stream.read(size):
        taken += piece
        assert stream.tell() == len(taken)
    assert taken == data + bytes(-len(data) % 512)
    with pytest.raises(tarfile.StreamError):
        stream.seek(stream.tell() - 1)


class Endless:
    """A stream that goes on with ``block``."""

    def __init__(self, begin: bytes, block: bytes) -> None:
        self._begin, self._block, self.taken = begin, block, 0

    def read(self, size: int, /) -> bytes:
        data, self._begin = self._begin[:size], self._begin[size:]
        data = data or self._block * max(1, size // len(self._block))
        self.taken += len(data)
        return data


def _sparse() -> bytes:
    info = tarfile.TarInfo("GNUSparseFile.0/x")
    info.size = 1 << 34
    info.pax_headers = {
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x", "GNU.sparse.realsize": str(1 << 34),
    }  # fmt: skip
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _old_sparse() -> bytes:
    """An old GNU sparse header, which says that another block of its map follows."""
    info = tarfile.TarInfo("x")
    info.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[482] = 1
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("begin", "block"),
    [
        (_sparse() + b"9999999999\n".ljust(512, b"0"), b"0\n" * 256),
        (_old_sparse(), (b"00000000001\0" * 42).ljust(504, b"\0") + b"\1" * 8),
    ],
    ids=["a map of ten thousand million holes", "a map that never ends"],
)
def test_a_map_of_a_sparse_file_has_a_limit(tmp_path: Path, begin: bytes, block: bytes) -> None:
    source = Endless(begin, block)
    with pytest.raises(InvalidArgument, match="headers of more than"):
        apply_layer(source, tmp_path, overlay=True)
    assert source.taken < 4 << 20


def test_data_outside_of_a_sparse_file_is_refused(tmp_path: Path) -> None:
    header = _sparse().replace(str(1 << 34).encode(), b"0000000010")
    with pytest.raises(InvalidArgument):
        apply_layer(io.BytesIO(header + b"1\n9999\n512\n".ljust(512, b"\0") + bytes(1024)), tmp_path, overlay=True)


@pytest.mark.root
@pytest.mark.parametrize("size", [1, 511, 512, 700])
def test_a_last_block_need_not_be_filled(tmp_path: Path, size: int) -> None:
    """But nothing else may lack: content is never made up."""
    data = archive_of(
        [(["first"], tarfile.REGTYPE, [], b"1" * 600, 0o644), (["last"], tarfile.REGTYPE, [], b"x" * size, 0o644)]
    )
    content = 512 + 1024 + 512 + size
    for end in {content, content + (-size % 512) // 2, content + -size % 512}:
        (layer := tmp_path / str(end)).mkdir()
        apply_layer(io.BytesIO(data[:end]), layer, overlay=True)
        assert (layer / "last").read_bytes() == b"x" * size
    for end in (content - 1, 512 + 1024 + 300):
        with pytest.raises(InvalidArgument):
            apply_layer(io.BytesIO(data[:end]), tmp_path, overlay=True)


PATHS = st.lists(st.sampled_from(["a", "b", "..", ".", "", "link", ".wh.a", ".wh..wh..opq", "ü", "n" * 90]), max_size=4)


MEMBERS = st.lists(
    st.tuples(PATHS, st.sampled_from(KINDS), PATHS, st.binary(max_size=20), st.sampled_from([0o644, 0o4755, 0o700])),
    max_size=8,
)


def archive_of(members: list[tuple[list[str], bytes, list[str], bytes, int]]) -> bytes:
    """Make an archive of members (path, type, link, content, mode) that are in each other's way."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, kind, link, content, mode in members:
            info = tarfile.TarInfo("/".join(path))
            info.type, info.linkname, info.mode = kind, "/".join(link), mode
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.root
@settings(max_examples=60, deadline=None)
@given(MEMBERS, st.one_of(st.none(), st.integers(0, 4000)), st.booleans())
def test_whatever_an_archive_is_it_stays_inside(
    tmp_path_factory: pytest.TempPathFactory, members: Any, end: int | None, overlay: bool
) -> None:
    """It is a layer or InvalidArgument; beside the layer nothing changes, and no descriptor stays open."""
    top = tmp_path_factory.mktemp("top")
    (top / "layer").mkdir()
    (top / "a").write_text("beside")
    before, opened = (top / "a").stat(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with suppress(InvalidArgument):
        apply_layer(io.BytesIO(archive_of(members)[:end]), top / "layer", overlay=overlay)
    assert {path.name for path in top.iterdir()} == {"layer", "a"}
    after = (top / "a").stat()
    assert ((top / "a").read_text(), after.st_nlink, after.st_mode) == ("beside", 1, before.st_mode)
    assert len(os.listdir("/proc/self/fd")) == opened  # noqa: PTH208
