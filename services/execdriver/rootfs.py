"""What is made inside a container's root filesystem before it starts."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path, PurePosixPath

from shared.runtime.openat2 import open_inside

__all__ = ["ensure_directory", "make_directory", "make_marks"]


def make_marks(rootfs: Path) -> None:
    """Make what programs look for in a container, where nothing has that name (moby daemon/initlayer).

    ``/.dockerenv`` says that it is one; ``/etc/mtab`` is where some programs read the mounts. Errors: OSError.
    """
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY)
    try:
        with contextlib.suppress(FileExistsError):
            mark = os.open(".dockerenv", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o755, dir_fd=root)
            os.fchmod(mark, 0o755)  # whatever our umask
            os.close(mark)
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
    ensure_directory(rootfs, path, 0o755)


def ensure_directory(rootfs: Path, path: str, mode: int) -> int:
    """Make a directory of ``mode`` where there is none, as `make_directory` does; returns the mode that it has."""
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY)
    try:
        done = PurePosixPath("/")
        for part in PurePosixPath(path).parts[1:]:
            parent = open_inside(root, str(done), os.O_RDONLY | os.O_DIRECTORY)
            done /= part
            try:
                _make_one(parent, part, mode if done == PurePosixPath(path) else 0o755)
            finally:
                os.close(parent)
        found = open_inside(root, path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return stat.S_IMODE(os.fstat(found).st_mode)
        finally:
            os.close(found)
    finally:
        os.close(root)


def _make_one(parent: int, name: str, mode: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return
    made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        os.fchmod(made, mode)  # our umask is not the container's
    finally:
        os.close(made)
