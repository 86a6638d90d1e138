"""Files inside a container's root filesystem, resolved as the container would: no symlink leads out.

openat2(2) with RESOLVE_IN_ROOT (Linux 5.6); Python has no call for it.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

__all__ = ["open_inside", "read_text"]

SYS_OPENAT2 = 437  # the same on every architecture
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_IN_ROOT = 0x02, 0x04, 0x10
MAX_TEXT = 1 << 20  # bytes read of passwd and group
ATTEMPTS = 1000

libc = ctypes.CDLL(None, use_errno=True)


class OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_inside(root: int, path: str, flags: int, *, links: bool = True) -> int:
    """Open ``path`` with the directory descriptor ``root`` as "/"; returns a descriptor. Errors: OSError.

    Without ``links``, a symlink on the way is an error (ELOOP).
    """
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (0 if links else RESOLVE_NO_SYMLINKS)
    how = OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    encoded = os.fsencode(path)
    for _ in range(ATTEMPTS):
        descriptor: int = libc.syscall(SYS_OPENAT2, root, encoded, ctypes.byref(how), ctypes.sizeof(how))
        if descriptor >= 0:
            return descriptor
        number = ctypes.get_errno()
        if number != errno.EAGAIN:  # something was renamed while ".." was followed: the kernel wants us to try again
            break
    raise OSError(number, os.strerror(number), path)


def read_text(rootfs: Path, path: str) -> str:
    """Read a small text file of the container; empty if it is not there or not a regular file."""
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY)
    try:
        descriptor = open_inside(root, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return ""
    finally:
        os.close(root)
    with os.fdopen(descriptor, "rb") as file:
        try:
            return file.read(MAX_TEXT).decode("utf-8", "replace")
        except OSError:
            return ""
