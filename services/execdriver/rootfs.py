"""What is made inside a container's root filesystem before it starts."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path, PurePosixPath

from shared.runtime.openat2 import open_inside

__all__ = ["make_directory", "make_marks"]


def make_marks(rootfs: Path) -> None:
    """Make what programs look for in a container, where nothing has that name (moby daemon/initlayer).

    ``/.dockerenv`` says that it is one; ``/etc/mtab`` is where some programs read the mounts. Errors: OSError.
    """
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY)
    try:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(".dockerenv", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o755, dir_fd=root))
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            etc = open_inside(root, "/etc", os.O_PATH | os.O_DIRECTORY)
            try:
                with contextlib.suppress(FileExistsError):
                    os.symlink("/proc/mounts", "mtab", dir_fd=etc)
            finally:
                os.close(etc)
    finally:
        os.close(root)


def make_directory(rootfs: Path, path: str) -> None:
    """Make a directory and its parents (0755), root's where new. Errors: OSError (a file is in the way)."""
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY)
    try:
        done = PurePosixPath("/")
        for part in PurePosixPath(path).parts[1:]:
            parent = open_inside(root, str(done), os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.mkdir(part, 0o755, dir_fd=parent)
            except FileExistsError:
                pass
            finally:
                os.close(parent)
            done /= part
        os.close(open_inside(root, path, os.O_PATH | os.O_DIRECTORY))
    finally:
        os.close(root)
