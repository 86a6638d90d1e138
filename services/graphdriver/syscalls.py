"""mount(2), umount2(2), syncfs(2), and a working directory for one thread: what Python lacks."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["is_mounted", "mount", "sync_file_system", "unmount", "working_directory"]

MNT_DETACH = 2
CLONE_FS = 0x200
libc = ctypes.CDLL(None, use_errno=True)
thread = threading.local()


def mount(source: str, target: Path, kind: str, options: str, flags: int = 0) -> None:
    """Errors: OSError."""
    if libc.mount(source.encode(), str(target).encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()):
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


@contextmanager
def working_directory(path: Path) -> Iterator[None]:
    """Be in a directory with the calling thread alone (its file system attributes are unshared, once)."""
    if not getattr(thread, "unshared", False):
        if libc.unshare(CLONE_FS):
            _fail(str(path))
        thread.unshared = True
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(path)
        yield
    finally:
        os.fchdir(before)
        os.close(before)
