"""mount(2), umount2(2) and syncfs(2), which Python lacks."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

__all__ = ["is_mounted", "mount", "sync_file_system", "unmount"]

MNT_DETACH = 2
libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: Path, kind: str, options: str) -> None:
    """Errors: OSError."""
    if libc.mount(source.encode(), str(target).encode(), kind.encode(), ctypes.c_ulong(0), options.encode()):
        _fail(str(target))


def unmount(target: Path) -> None:
    """Detach a mount; one that is not there is no error. Errors: OSError."""
    if libc.umount2(str(target).encode(), MNT_DETACH) and ctypes.get_errno() not in (22, 2):  # EINVAL, ENOENT
        _fail(str(target))


def _fail(target: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), target)


def is_mounted(path: Path) -> bool:
    """Say whether ``path`` is where something is mounted."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except FileNotFoundError:
        return False


def sync_file_system(path: Path) -> None:
    """Make everything on the file system of ``path`` durable. Errors: OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if libc.syncfs(descriptor):
            _fail(str(path))
    finally:
        os.close(descriptor)
