"""What rotation keeps: by hand-made files, without a monitor (tests/contract/test_logs.py has one)."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from pytest import TempPathFactory

from services.execdriver.bundle import Bundle
from services.execdriver.rotation import Rotation
from shared.protocol import LogPolicy
from shared.runtime.logs.files import LogFiles

ROTATION = Rotation()


def looked_after(directory: Path, max_file: int) -> LogFiles:
    ROTATION.watch(Bundle.of(directory / "run", "c"), directory, LogPolicy(max_file=max_file))
    ROTATION.forget("c")
    return LogFiles(directory)


@given(
    sizes=st.lists(st.integers(0, 2), min_size=1, max_size=8),
    max_file=st.integers(1, 6),
    coming=st.booleans(),
    gz=st.booleans(),
)
def test_the_newest_parts_are_kept(
    tmp_path_factory: TempPathFactory, sizes: list[int], max_file: int, coming: bool, gz: bool
) -> None:
    """Never used ones do not count, and go; what conmon is to write to next stays."""
    files = LogFiles(tmp_path_factory.mktemp("log"))
    for number, size in enumerate(sizes, 1):
        files.part(number).path.write_bytes(b"x" * size)
    current = len(sizes)
    os.link(files.part(current).path, files.current)
    if coming:
        files.part(current + 1).path.touch()
        os.link(files.part(current + 1).path, files.coming)
    if gz and sizes[0] and current > 1:
        files.part(1).path.rename(f"{files.part(1).path}.gz")
    used = [number for number, size in enumerate(sizes[:-1], 1) if size]
    wanted = [*used[max(0, len(used) - (max_file - 1)) :], current] + ([current + 1] if coming else [])
    looked_after(files.directory, max_file)
    assert [part.number for part in files.numbered()] == wanted
    assert files.current_inode() == files.part(current).inode()


def test_a_file_without_a_number_gets_the_highest(tmp_path: Path) -> None:
    files = LogFiles(tmp_path)
    for number in (3, 7):
        files.part(number).path.write_text("x")
    files.current.write_text("written to after conmon was asked twice")
    assert [part.number for part in files.parts()] == [3, 7, 0]
    looked_after(tmp_path, 5)
    assert [part.number for part in files.parts()] == [3, 7, 8]
    assert files.current_inode() == files.part(8).inode()


def test_the_first_part_has_its_number_before_it_is_opened(tmp_path: Path) -> None:
    for _ in range(2):
        ROTATION.prepare(tmp_path / "new", LogPolicy())
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["container.log", "container.log.1"]
    ROTATION.prepare(tmp_path / "none", LogPolicy(driver="none"))
    assert not (tmp_path / "none").exists()
