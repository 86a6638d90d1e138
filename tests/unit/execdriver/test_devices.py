"""The nodes of a privileged container, of a directory that stands in for /dev while it changes."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from services.execdriver import devices

pytestmark = pytest.mark.root


def test_what_goes_meanwhile_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pts").mkdir()
    (tmp_path / "block").mkdir()
    for name in ("null", "gone", "pts/0", "console"):
        os.mknod(tmp_path / name, stat.S_IFCHR | 0o660, os.makedev(1, 3))
    os.mknod(tmp_path / "block/loop0", stat.S_IFBLK | 0o660, os.makedev(7, 0))
    (tmp_path / "link").symlink_to("null")
    (tmp_path / "file").write_text("")
    (tmp_path / "emptied").mkdir()
    lstat = Path.lstat

    def look(path: Path) -> os.stat_result:
        if path.name == "gone":
            path.unlink()
        found = lstat(path)
        if path.name == "emptied":
            path.rmdir()
        return found

    monkeypatch.setattr(Path, "lstat", look)
    found = {node["path"]: (node["type"], node["major"], node["minor"]) for node in devices._host_nodes(tmp_path)}
    assert found == {f"{tmp_path}/null": ("c", 1, 3), f"{tmp_path}/block/loop0": ("b", 7, 0)}
