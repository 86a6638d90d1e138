"""Trees of files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["tree_size"]

PASSED_OVER = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)  # a running container removes, and makes, what it likes


def tree_size(path: Path, check: Callable[[], None] = lambda: None) -> int:
    """Return the bytes of all under ``path`` but directories; a hard link counts once. ``check`` is called on the way.

    Errors: OSError.
    """
    sizes: dict[tuple[int, int], int] = {}
    pending = [os.fspath(path)]
    while pending:
        check()
        for entry in _entries(pending.pop()):
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


def _entries(directory: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            yield from entries
    except OSError as error:
        if error.errno not in PASSED_OVER:
            raise
