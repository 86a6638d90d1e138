"""Layers are unpacked as they are, and never beyond their directory."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.graphdriver.apply import apply_layer
from shared.protocol import InvalidArgument

pytestmark = pytest.mark.root


def member(
    name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **attributes: Any
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode = kind, len(data), 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def layer(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    buffer.seek(0)
    return buffer


def apply(target: Path, *members: tuple[tarfile.TarInfo, bytes], overlay: bool = True) -> int:
    target.mkdir(exist_ok=True)
    return apply_layer(layer(*members), target, overlay=overlay)


def test_everything_a_layer_can_hold(tmp_path: Path) -> None:
    target = tmp_path / "layer"
    size = apply(
        target,
        member("./etc", tarfile.DIRTYPE, mode=0o750, uid=3, gid=4, mtime=1000),
        member("etc/file", data=b"hello", mode=0o4755, uid=5, gid=6, mtime=2000),
        member("etc/hard", tarfile.LNKTYPE, linkname="etc/file"),
        member("etc/soft", tarfile.SYMTYPE, linkname="/etc/file"),
        member("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3),
        member("pipe", tarfile.FIFOTYPE),
        member(
            "x", data=b"1", pax_headers={"SCHILY.xattr.user.note": "yes", "SCHILY.xattr.trusted.overlay.opaque": "y"}
        ),
    )
    assert size == 6
    status = (target / "etc/file").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime) == (0o4755, 5, 6, 2000)
    assert (target / "etc/hard").stat().st_ino == status.st_ino
    assert (target / "etc/soft").readlink() == Path("/etc/file")
    assert (target / "dev/null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISFIFO((target / "pipe").stat().st_mode)
    directory = (target / "etc").stat()
    assert (stat.S_IMODE(directory.st_mode), directory.st_uid, directory.st_mtime) == (0o750, 3, 1000)
    assert os.listxattr(target / "x") == ["user.note"]


def test_whiteouts_for_overlay(tmp_path: Path) -> None:
    target = tmp_path / "layer"
    apply(target, member("a/.wh.gone"), member("b/.wh..wh..opq"), member("b/new"))
    gone = (target / "a/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.getxattr(target / "b", "trusted.overlay.opaque") == b"y"


def test_whiteouts_for_a_copy(tmp_path: Path) -> None:
    target = tmp_path / "layer"
    apply(target, member("a/gone"), member("a/kept"), member("b/old/deep"), overlay=False)
    apply(target, member("a/.wh.gone"), member("b/new"), member("b/.wh..wh..opq"), overlay=False)
    assert sorted(str(p.relative_to(target)) for p in target.rglob("*")) == ["a", "a/kept", "b", "b/new"]


@pytest.mark.parametrize(
    "members",
    [
        [member("../outside", data=b"x")],
        [member("a/../../outside", data=b"x")],
        [member("link", tarfile.SYMTYPE, linkname=".."), member("link/outside", data=b"x")],
        [member("link", tarfile.SYMTYPE, linkname="/tmp"), member("link/sub/x", data=b"x")],
        [member("hard", tarfile.LNKTYPE, linkname="../secret")],
        [member("up", tarfile.SYMTYPE, linkname=".."), member("hard", tarfile.LNKTYPE, linkname="up/secret")],
        [member("hard", tarfile.LNKTYPE, linkname="missing")],
        [member("d", tarfile.DIRTYPE), member("hard", tarfile.LNKTYPE, linkname="d")],
        [member("up", tarfile.SYMTYPE, linkname=".."), member("up/.wh.secret")],
        [member(".wh.")],
        [member(".wh...")],
        [member("x" * 300)],
        [member("x", uid=2**32 - 1)],
        [member("x", gid=2**40)],
        [member("file", data=b"x"), member("file/below", data=b"x")],
    ],
)
@pytest.mark.parametrize("overlay", [True, False])
def test_what_leads_out_is_refused_and_nothing_outside_changes(tmp_path: Path, members: Any, overlay: bool) -> None:
    (tmp_path / "secret").write_text("untouched")
    with pytest.raises(InvalidArgument):
        apply(tmp_path / "layer", *members, overlay=overlay)
    assert {path.name for path in tmp_path.iterdir()} == {"secret", "layer"}
    assert (tmp_path / "secret").read_text() == "untouched"


def test_absolute_names_stay_inside(tmp_path: Path) -> None:
    apply(tmp_path / "layer", member("/etc/passwd", data=b"x"))
    assert (tmp_path / "layer/etc/passwd").read_text() == "x"


def test_a_later_entry_replaces_an_earlier_one(tmp_path: Path) -> None:
    target = tmp_path / "layer"
    apply(target, member("a/b", data=b"1"), member("a", tarfile.SYMTYPE, linkname="c"), member("a", data=b"2"))
    assert (target / "a").read_text() == "2"


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=2000))
def test_garbage_is_an_invalid_argument(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    target = tmp_path_factory.mktemp("garbage")
    try:
        apply_layer(io.BytesIO(data), target, overlay=True)
    except InvalidArgument:
        return


def test_aufs_notes_are_skipped(tmp_path: Path) -> None:
    apply(tmp_path / "layer", member(".wh..wh.aufs"), member(".wh..wh.plnk", tarfile.DIRTYPE), member("f"))
    assert [path.name for path in (tmp_path / "layer").iterdir()] == ["f"]


def test_an_attribute_that_a_symlink_cannot_have_is_left_out(tmp_path: Path) -> None:
    xattr = {"SCHILY.xattr.user.note": "yes"}
    apply(tmp_path / "layer", member("soft", tarfile.SYMTYPE, linkname="x", pax_headers=xattr))
    assert (tmp_path / "layer/soft").is_symlink()


def test_an_extended_header_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 1 << 30

    class Endless(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size) or bytes(size or 0)
            self.taken += len(data)
            return data

    source = Endless(header.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(InvalidArgument, match="extended header"):
        apply_layer(source, tmp_path, overlay=True)
    assert source.taken < 1 << 20
