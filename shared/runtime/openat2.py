"""openat2(2) (Linux 5.6): paths resolved inside a directory, whatever their symlinks say. Python has no call for it."""

from __future__ import annotations

import ctypes
import errno
import os

__all__ = ["PATH_MAX", "open_beneath", "open_inside"]

SYS_OPENAT2 = 437  # the same on every architecture
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 0x02, 0x04, 0x08, 0x10
ATTEMPTS = 1000
PATH_MAX = 4096  # bytes of a path, with the NUL at its end (linux/limits.h)
STRIDE = PATH_MAX // 4  # characters, of at most four bytes

libc = ctypes.CDLL(None, use_errno=True)


class OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_inside(root: int, path: str, flags: int, *, links: bool = True) -> int:
    """Open ``path`` with the directory descriptor ``root`` as "/"; returns a descriptor. Errors: OSError.

    Without ``links``, a symlink on the way is an error (ELOOP), and the path may be longer than one call takes.
    """
    if not links and len(os.fsencode(path)) >= PATH_MAX and ".." not in path.split("/"):
        return _open_long(root, path, flags)
    return _open(root, path, flags, RESOLVE_IN_ROOT | (0 if links else RESOLVE_NO_SYMLINKS))


def _open_long(root: int, path: str, flags: int) -> int:
    """Go down in strides; what has neither links nor ".." in it leads nowhere else so."""
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS
    current = os.dup(root)
    try:
        while len(os.fsencode(path)) >= PATH_MAX:
            cut = path.rfind("/", 1, STRIDE)
            if cut < 0:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
            following = _open(current, path[:cut], os.O_PATH | os.O_DIRECTORY, resolve)
            os.close(current)
            current, path = following, path[cut:].lstrip("/")
        return _open(current, path or ".", flags, resolve)
    finally:
        os.close(current)


def open_beneath(root: int, path: str, flags: int) -> int:
    """Open the relative ``path`` below ``root``. Errors: OSError; EXDEV where a ".." or a symlink leads out of it."""
    return _open(root, path, flags, RESOLVE_BENEATH)


def _open(root: int, path: str, flags: int, resolve: int) -> int:
    how = OpenHow(flags | os.O_CLOEXEC, 0, resolve | RESOLVE_NO_MAGICLINKS)
    encoded = os.fsencode(path)
    for _ in range(ATTEMPTS):
        descriptor: int = libc.syscall(SYS_OPENAT2, root, encoded, ctypes.byref(how), ctypes.sizeof(how))
        if descriptor >= 0:
            return descriptor
        number = ctypes.get_errno()
        if number != errno.EAGAIN:  # something was renamed while ".." was followed: the kernel wants us to try again
            break
    raise OSError(number, os.strerror(number), path)
