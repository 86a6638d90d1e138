"""mount(2), umount2(2), syncfs(2), a directory's flags, and a working directory for one thread: what Python lacks."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["is_mounted", "mount", "spread_out", "sync_file_system", "unmount", "working_directory"]

MNT_DETACH = 2
CLONE_FS = 0x200
FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FS_TOPDIR_FL = 0x80086601, 0x40086602, 0x00020000  # linux/fs.h
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


def spread_out(path: Path) -> bool:
    """Have directories that are made in this one lie far apart (chattr(1), T); False where there is no such thing.

    ext4 looks at each inode that was freed in the last minutes before it takes another of the same block group. Where
    much is removed and made in one place, that costs more than all else; a group with nothing freed costs nothing.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        (flags,) = struct.unpack("l", fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, struct.pack("l", 0)))
        fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, struct.pack("l", flags | FS_TOPDIR_FL))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


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
