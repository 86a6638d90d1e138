"""Room: whether a file system has some left, told before the last of it is gone."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["shortage"]

LEAST, LEAST_INODES = 16 << 20, 128  # bytes: a few times what the engine holds for its records


def shortage(path: Path) -> str:
    """Say what the file system of a path is short of; nothing if there is enough, or it does not tell."""
    try:
        found = os.statvfs(path)
    except OSError:
        return ""
    if found.f_blocks and found.f_bavail * found.f_frsize < LEAST:
        return f"the disk is full: less than {LEAST >> 20} MB are free in {path}"
    if found.f_files and found.f_favail < LEAST_INODES:
        return f"the disk is full: less than {LEAST_INODES} inodes are free in {path}"
    return ""
