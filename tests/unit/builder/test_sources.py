"""What is copied from: names, links and patterns in a context and in a tree; what it is called in the cache."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.builder.context import spool
from services.builder.copying import Copy, fingerprint, pick
from services.builder.sources import Entry, Source, clean, follow, glob, walk
from services.builder.tars import Tar
from services.builder.tarstream import Item, chunks
from services.builder.trees import Tree
from shared.protocol import InvalidArgument


def member(name: str, content: str = "", **facts: Any) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.size = len(content.encode())
    for key, value in facts.items():
        setattr(made, key, value)
    return made, content.encode()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, linkname=target)


@contextmanager
def context(*members: tuple[tarfile.TarInfo, bytes]) -> Iterator[Tar]:
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for info, content in members:
                archive.addfile(info, io.BytesIO(content))
        file.flush()
        yield Tar(file)


@contextmanager
def tree(directory: Path) -> Iterator[Tree]:
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    try:
        yield Tree(root)
    finally:
        os.close(root)


def content(source: Source, path: str) -> bytes:
    entry = source.entry(path)
    assert entry is not None
    with source.open(path, entry) as file:
        return file.read()


FILES = [
    member("./a.txt", "a"), member("d/x/deep.go", "deep"), member("d/y.go", "y"), link("l", "d"),
    link("abs", "/d/x"), link("loop", "loop"), link("out", "../../../etc"), link("hard", "a.txt", tarfile.LNKTYPE),
]  # fmt: skip


def test_a_context_and_a_tree_say_the_same(tmp_path: Path) -> None:
    """The same files, in a tar and unpacked, are walked, found and called alike."""
    with context(*FILES[:5]) as tar:
        (tmp_path / "d" / "x").mkdir(parents=True)
        for name in ("a.txt", "d/x/deep.go", "d/y.go"):
            (tmp_path / name).write_bytes(content(tar, name))
            (tmp_path / name).chmod(0o644)
        (tmp_path / "l").symlink_to("d")
        (tmp_path / "abs").symlink_to("/d/x")
        for directory in ("", "d", "d/x"):
            (tmp_path / directory).chmod(0o755)
        with tree(tmp_path) as unpacked:
            assert [path for path, _ in walk(tar, "")] == [path for path, _ in walk(unpacked, "")]
            for source in (tar, unpacked):
                assert glob(source, "d/*.go") == ["d/y.go"]
                assert glob(source, "**/*.go") == ["d/x/deep.go", "d/y.go"]
                assert glob(source, "l/[x-z]*") == ["d/x", "d/y.go"]
                assert follow(source, "l/x") == "d/x"
                assert follow(source, "abs/deep.go") == "d/x/deep.go"
                assert source.entry("a.txt/x") is None
            prints = [fingerprint(Copy("/", pick(source, "."))) for source in (tar, unpacked)]
            assert prints[0].startswith("dir:")
            assert prints[0].split(":")[1:] == prints[1].split(":")[1:]


def test_links_do_not_lead_out(tmp_path: Path) -> None:
    with context(*FILES) as tar:
        assert follow(tar, "out/passwd") == "etc/passwd"
        assert content(tar, "hard") == b"a"
        with pytest.raises(InvalidArgument, match="too many links"):
            follow(tar, "loop")
        with pytest.raises(InvalidArgument, match="file not found in build context"):
            pick(tar, "out")
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_text("")
    (tmp_path / "root" / "up").symlink_to("../secret")
    with tree(tmp_path / "root") as unpacked:
        assert follow(unpacked, "up") == "secret"
        assert unpacked.entry("secret") is None


def test_what_is_left_out_is_not_there_but_what_is_above_the_rest_is() -> None:
    with context(*FILES[:3]) as tar:
        tar.leave_out(lambda path: path in ("a.txt", "d", "d/x", "d/x/deep.go"))
        assert [path for path, _ in walk(tar, "")] == ["", "d", "d/y.go"]


@pytest.mark.parametrize("bad", [member("../x"), member("a/../../x"), link("h", "missing", tarfile.LNKTYPE)])
def test_a_context_that_leads_out_is_refused(bad: tuple[tarfile.TarInfo, bytes]) -> None:
    with pytest.raises(InvalidArgument, match="Error processing tar file"), context(bad):
        pass


def test_a_context_cut_off_anywhere_is_refused_but_in_what_fills_the_last_block() -> None:
    """The docker command leaves that out where the Dockerfile is not in the context (`docker build -f FILE`)."""
    content = "x" * 700
    with tempfile.TemporaryFile() as whole:
        with tarfile.open(fileobj=whole, mode="w") as archive:
            for info, data in (member("first", content), member("last", content)):
                archive.addfile(info, io.BytesIO(data))
        whole.seek(0)
        data = whole.read()
    end_of_first, end = 512 + 700, 2 * 512 + 1024 + 700
    for size in [*range(1, 520), end_of_first, 1535, 1536, 1537, 2047, 2048, *range(end - 200, end + 330)]:
        with tempfile.TemporaryFile() as file:
            file.write(data[:size])
            file.flush()
            if end_of_first <= size <= 1536 or size >= end:
                tar = Tar(file)
                assert tar.names("") == (["first"] if size < end else ["first", "last"]), size
                last = tar.names("")[-1]
                entry = tar.entry(last)
                assert entry is not None
                with tar.open(last, entry) as opened:
                    assert opened.read() == content.encode()
            else:
                with pytest.raises(InvalidArgument, match="Error processing tar file"):
                    Tar(file)


@given(st.binary(max_size=2048))
def test_any_bytes_are_a_context_or_refused(data: bytes) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            list(walk(Tar(file), ""))
        except InvalidArgument:
            return


@given(st.text("ab/.", max_size=12))
def test_a_clean_path_stays_inside(path: str) -> None:
    parts = clean(path).split("/")
    assert ".." not in parts
    assert clean(clean(path)) == clean(path)


def test_what_changes_the_name_in_the_cache() -> None:
    """Content, names, modes and links do; times and owners do not, unless owners are kept."""

    def digest(*members: tuple[tarfile.TarInfo, bytes], **options: Any) -> str:
        with context(*members) as tar:
            return fingerprint(Copy("/", pick(tar, "d"), **options))

    base = digest(member("d/f", "1"))
    assert base == digest(member("d/f", "1", mtime=5, uid=7))
    others = {
        digest(member("d/f", "2")), digest(member("d/g", "1")), digest(member("d/f", "1", mode=0o755)),
        digest(member("d/f", "1"), member("d/g")), digest(link("d/f", "1")), digest(link("d/f", "2")),
        digest(member("d/f", "1", uid=7), preserve_owner=True), digest(member("d/f", "1", uid=8), preserve_owner=True),
    }  # fmt: skip
    assert len(others | {base}) == 9
    assert digest(member("d/f", "1"), member("d/x", "2"), exclude=["x"]) == base


def test_a_tar_is_written_as_it_was_read() -> None:
    with context(*FILES, member("\udcff", "no utf-8"), member("n" * 300, "long")) as tar:
        items = (Item(path, entry, tar, path) for path, entry in walk(tar, "") if path)
        data = b"".join(chunks(items))
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            again = Tar(file)
            shown = [
                [(path, replace(entry, place=None, identity=None)) for path, entry in walk(source, "")]
                for source in (tar, again)
            ]
            assert shown[0] == shown[1]
            assert content(again, "d/y.go") == b"y"
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            kinds = {found.name: found.type for found in archive}
        assert (kinds["a.txt"], kinds["hard"]) == (tarfile.REGTYPE, tarfile.LNKTYPE)  # its bytes are there once


def test_owner_and_mode_are_replaced_where_they_are_asked_for() -> None:
    entry = Entry(tarfile.SYMTYPE, 0o777, 5, 6, link="x")
    items = [Item("l", entry, owner=(1, 2), mode=0o600), Item("d", Entry(tarfile.DIRTYPE, 0o755), mode=0o700)]
    data = b"".join(chunks(items))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        first, second = archive.getmembers()
    assert (first.uid, first.gid, first.mode) == (1, 2, 0o777)
    assert (second.uid, second.mode) == (0, 0o700)


def test_a_context_that_unpacks_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.builder.context.MAX_UNPACKED", 1 << 20)
    with tempfile.TemporaryFile() as file:
        with pytest.raises(InvalidArgument, match="unpacks to more than 1048576 bytes"):
            spool(io.BytesIO(gzip.compress(bytes(4 << 20))), file)
        assert file.tell() <= 1 << 20
