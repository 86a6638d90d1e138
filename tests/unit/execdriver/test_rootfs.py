from __future__ import annotations

from pathlib import Path

import pytest

from services.execdriver.rootfs import make_directory, make_marks
from shared.protocol import InvalidArgument
from shared.runtime.rootfs import read_text
from shared.runtime.user import resolve_user


def test_files_of_a_container_are_resolved_inside_it(tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_text("root:x:0:0::/:/bin/sh")
    rootfs = tmp_path / "rootfs"
    (rootfs / "etc").mkdir(parents=True)
    (rootfs / "etc/passwd").symlink_to("../../secret")
    assert read_text(rootfs, "/etc/passwd") == ""
    (rootfs / "link").symlink_to("/etc")
    make_directory(rootfs, "/link/made/deep")
    assert (rootfs / "etc/made/deep").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rootfs", "secret"]


def test_marks_are_made_where_nothing_is(tmp_path: Path) -> None:
    bare, own = tmp_path / "bare", tmp_path / "own"
    for rootfs in (bare, own):
        (rootfs / "usr/etc").mkdir(parents=True)
    make_marks(bare)
    make_marks(bare)
    assert ((bare / ".dockerenv").read_text(), (bare / "etc").exists()) == ("", False)
    (own / "etc").symlink_to("/usr/etc")
    (own / ".dockerenv").symlink_to("../secret")
    make_marks(own)
    make_marks(own)
    assert (own / "usr/etc/mtab").readlink() == Path("/proc/mounts")
    assert not (tmp_path / "secret").exists()
    (bare / "etc").mkdir()
    (bare / "etc/mtab").write_text("its own")
    make_marks(bare)
    assert (bare / "etc/mtab").read_text() == "its own"


@pytest.mark.parametrize("user", ["4294967296", "-1", "0:99999999999", "nobody-here", "0:no-group", str(2**31)])
def test_users_that_are_none(tmp_path: Path, user: str) -> None:
    with pytest.raises(InvalidArgument):
        resolve_user(tmp_path, user, [])


def test_numbers_need_no_entry(tmp_path: Path) -> None:
    found = resolve_user(tmp_path, "7:8", ["9"])
    assert (found.uid, found.additional_gids) == (7, [8, 9])
