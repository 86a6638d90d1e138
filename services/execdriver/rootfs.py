"""Files inside a container's root filesystem, resolved as the container would: no symlink leads out.

openat2(2) with RESOLVE_IN_ROOT (Linux 5.6); Python has no call for it.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path, PurePosixPath

__all__ = ["make_directory", "open_inside", "read_text"]

SYS_OPENAT2 = 437  # the same on every architecture
RESOLVE_NO_MAGICLINKS, RESOLVE_IN_ROOT = 0x02, 0x10
MAX_TEXT = 1 << 20  # bytes read of passwd and group

libc = ctypes.CDLL(None, use_errno=True)


class OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_inside(root: int, path: str, flags: int) -> int:
    """Open ``path`` with the directory descriptor ``root`` as "/"; returns a descriptor. Errors: OSError."""
    how = OpenHow(flags | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    descriptor: int = libc.syscall(SYS_OPENAT2, root, path.encode(), ctypes.byref(how), ctypes.sizeof(how))
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return descriptor


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
