"""openat2(2) (Linux 5.6): paths resolved inside a directory, whatever their symlinks say. Python has no call for it."""

from __future__ import annotations

import ctypes
import os

__all__ = ["open_beneath", "open_inside"]

SYS_OPENAT2 = 437  # the same on every architecture
RESOLVE_NO_MAGICLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 0x02, 0x08, 0x10

libc = ctypes.CDLL(None, use_errno=True)


class OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_inside(root: int, path: str, flags: int) -> int:
    """Open ``path`` with the directory descriptor ``root`` as "/"; returns a descriptor. Errors: OSError."""
    return _open(root, path, flags, RESOLVE_IN_ROOT)


def open_beneath(root: int, path: str, flags: int) -> int:
    """Open the relative ``path`` below ``root``. Errors: OSError; EXDEV where a ".." or a symlink leads out of it."""
    return _open(root, path, flags, RESOLVE_BENEATH)


def _open(root: int, path: str, flags: int, resolve: int) -> int:
    how = OpenHow(flags | os.O_CLOEXEC, 0, resolve | RESOLVE_NO_MAGICLINKS)
    descriptor: int = libc.syscall(SYS_OPENAT2, root, path.encode(), ctypes.byref(how), ctypes.sizeof(how))
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return descriptor
