"""Who a container runs as, from the image's own passwd and group."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.protocol import InvalidArgument
from shared.runtime.user import MAX_ID, User, resolve_user

PASSWD = """root:x:0:0:root:/root:/bin/sh
guest:x:1000:1001::/home/guest:/bin/sh
wrapped:x:4294967296:0::/:/bin/sh
below:x:-1:0::/:/bin/sh
torn:x:5
"""
GROUP = """root:x:0:
guest:x:1001:
floppy:x:25:guest,root
wrapped:x:4294967297:guest2
"""


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text(PASSWD)
    (tmp_path / "etc" / "group").write_text(GROUP)
    return tmp_path


@pytest.mark.parametrize(
    ("user", "group_add", "found"),
    [
        ("", [], User(0, 0, [0, 25], "/root")),
        ("guest", [], User(1000, 1001, [25, 1001], "/home/guest")),
        ("1000", [], User(1000, 1001, [25, 1001], "/home/guest")),
        ("guest:floppy", [], User(1000, 25, [25], "/home/guest")),
        ("guest", ["root", "7"], User(1000, 1001, [0, 7, 25, 1001], "/home/guest")),
        ("77", [], User(77, 0, [0], "/")),
        ("77:88", ["25"], User(77, 88, [25, 88], "/")),
        (str(MAX_ID), [], User(MAX_ID, 0, [0], "/")),
    ],
)
def test_user_group_and_all_groups(rootfs: Path, user: str, group_add: list[str], found: User) -> None:
    assert resolve_user(rootfs, user, group_add) == found


@pytest.mark.parametrize(
    ("user", "why"),
    [
        ("4294967296", "uids and gids must be in range 0-2147483647"),
        ("2147483648", "uids and gids must be in range"),
        ("-1", "unable to find user -1: no matching entries in passwd file"),
        ("\u0661", "unable to find user"),
        ("\u00b2", "unable to find user"),
        ("wrapped", "uids and gids must be in range 0-2147483647: wrapped"),
        ("below", "uids and gids must be in range"),
        ("torn", "unable to find user torn"),
        ("nobody", "unable to find user nobody"),
        ("0:4294967296", "uids and gids must be in range"),
        ("0:-1", "unable to find group -1"),
        ("0:wrapped", "uids and gids must be in range"),
        ("0:none", "unable to find group none: no matching entries in group file"),
    ],
)
def test_nothing_wraps_to_root(rootfs: Path, user: str, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        resolve_user(rootfs, user, [])


def test_without_files_numbers_do(tmp_path: Path) -> None:
    assert resolve_user(tmp_path, "5:6", []) == User(5, 6, [6], "/")
    with pytest.raises(InvalidArgument, match="must be in range"):
        resolve_user(tmp_path, "5", ["4294967296"])


def test_the_files_of_the_image_do_not_lead_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").symlink_to("/../../../../etc/passwd")
    with pytest.raises(InvalidArgument, match="unable to find user root"):
        resolve_user(tmp_path, "root", [])
