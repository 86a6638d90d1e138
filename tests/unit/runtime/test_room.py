from __future__ import annotations

import os
from pathlib import Path

import pytest

from shared.runtime.room import LEAST, LEAST_INODES, shortage


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"f_bavail": LEAST // 4096 - 1}, "less than 16 MB are free in "),
        ({"f_favail": LEAST_INODES - 1}, "less than 128 inodes are free in "),
        ({"f_blocks": 0, "f_bavail": 0}, ""),  # of a file system that does not count
        ({"f_files": 0, "f_favail": 0}, ""),  # or has as many as there is room for
    ],
)
def test_what_there_is_too_little_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, int], said: str
) -> None:
    fields = {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": 10**9, "f_bfree": 10**8, "f_bavail": 10**8,
              "f_files": 10**6, "f_ffree": 10**5, "f_favail": 10**5, "f_flag": 0, "f_namemax": 255}  # fmt: skip
    found = os.statvfs_result(tuple({**fields, **changes}.values()))
    monkeypatch.setattr(os, "statvfs", lambda path: found)
    told = shortage(tmp_path)
    assert said in told
    assert bool(said) == bool(told)


def test_one_that_does_not_tell_is_not_full(tmp_path: Path) -> None:
    assert shortage(tmp_path / "nothing") == ""
