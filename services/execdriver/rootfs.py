"""Directories made inside a container's root filesystem."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from shared.runtime.openat2 import open_inside

__all__ = ["make_directory"]


def make_directory(rootfs: Path, path: str, uid: int, gid: int) -> None:
    """Make a directory and its parents (0755), owned by uid:gid where new. Errors: OSError (a file is in the way)."""
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY)
    try:
        done = PurePosixPath("/")
        for part in PurePosixPath(path).parts[1:]:
            parent = open_inside(root, str(done), os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.mkdir(part, 0o755, dir_fd=parent)
                os.chown(part, uid, gid, dir_fd=parent, follow_symlinks=False)
            except FileExistsError:
                pass
            finally:
                os.close(parent)
            done /= part
        os.close(open_inside(root, path, os.O_PATH | os.O_DIRECTORY))
    finally:
        os.close(root)
