from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.execdriver.logs import Entry, frame, parse_line

from services.execdriver.rootfs import make_directory
from shared.protocol import InvalidArgument, RuntimeLogs
from shared.runtime.rootfs import read_text
from shared.runtime.user import resolve_user

LINE = b"2026-11-24T10:58:11.630985409+00:00 stdout F hello world"


def request(**settings: object) -> RuntimeLogs:
    wanted = {"tty": False, "timestamps": False, "stdout": True, "stderr": True, "follow": False, "tail": -1,
              "since": 0.0, "until": 0.0, **settings}  # fmt: skip
    return RuntimeLogs(container="c", path="/log", **wanted)  # type: ignore[arg-type]


def test_a_line_becomes_a_frame() -> None:
    entry = parse_line(LINE)
    assert entry == Entry(1795517891 + 0.630985409, 630985409, 1, b"hello world\n")
    assert frame(entry, request()) == b"\x01\0\0\0\0\0\0\x0chello world\n"
    assert frame(entry, request(tty=True, timestamps=True)) == b"2026-11-24T10:58:11.630985409Z hello world\n"


def test_a_part_of_a_line_has_no_newline() -> None:
    entry = parse_line(LINE.replace(b" F ", b" P "))
    assert entry is not None
    assert entry.data == b"hello world"


@given(st.binary(max_size=80))
def test_a_torn_line_is_nothing(data: bytes) -> None:
    parse_line(data)
    parse_line(LINE[:35] + data)


def test_files_of_a_container_are_resolved_inside_it(tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_text("root:x:0:0::/:/bin/sh")
    rootfs = tmp_path / "rootfs"
    (rootfs / "etc").mkdir(parents=True)
    (rootfs / "etc/passwd").symlink_to("../../secret")
    assert read_text(rootfs, "/etc/passwd") == ""
    (rootfs / "link").symlink_to("/etc")
    make_directory(rootfs, "/link/made/deep", 0, 0)
    assert (rootfs / "etc/made/deep").is_dir()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rootfs", "secret"]


@pytest.mark.parametrize("user", ["4294967296", "-1", "0:99999999999", "nobody-here", "0:no-group", str(2**31)])
def test_users_that_are_none(tmp_path: Path, user: str) -> None:
    with pytest.raises(InvalidArgument):
        resolve_user(tmp_path, user, [])


def test_numbers_need_no_entry(tmp_path: Path) -> None:
    found = resolve_user(tmp_path, "7:8", ["9"])
    assert (found.uid, found.additional_gids) == (7, [8, 9])
