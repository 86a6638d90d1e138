"""Paths inside a directory: links, and what is longer than one call takes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.runtime.openat2 import PATH_MAX, open_inside


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_PATH)
    yield descriptor
    os.close(descriptor)


def make_deep(root: int, part: str, depth: int) -> str:
    """Make directories in each other, and a file in the last; returns its path."""
    current = os.dup(root)
    for _ in range(depth):
        os.mkdir(part, dir_fd=current)
        following = os.open(part, os.O_PATH, dir_fd=current)
        os.close(current)
        current = following
    os.close(os.open("file", os.O_CREAT, dir_fd=current))
    os.close(current)
    return "/".join([*[part] * depth, "file"])


@pytest.mark.parametrize(
    ("part", "depth"), [("a" * 255, 30), ("é" * 127, 40), ("a" * 203, 20), ("a" * 204, 20), ("ab", 300)]
)
@pytest.mark.parametrize("prefix", ["", "/", "//"])
def test_a_path_of_any_length(root: int, part: str, depth: int, prefix: str) -> None:
    path = make_deep(root, part, depth)
    opened = open_inside(root, prefix + path, os.O_RDONLY, links=False)
    assert os.fstat(opened).st_size == 0
    os.close(opened)
    with pytest.raises(FileNotFoundError):
        open_inside(root, f"{path[:-4]}nothing", os.O_RDONLY, links=False)


def test_no_link_is_followed_on_a_long_way(root: int, tmp_path: Path) -> None:
    part = "a" * 255
    path = make_deep(root, part, 20)
    (tmp_path / "link").symlink_to(part)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError, match="symbolic") as raised:
        open_inside(root, path.replace(part, "link", 1), os.O_RDONLY, links=False)
    assert raised.value.errno == errno.ELOOP
    with pytest.raises(OSError, match="too long"):
        open_inside(root, "b" * PATH_MAX, os.O_RDONLY, links=False)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
