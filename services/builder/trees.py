"""Trees: a mounted root filesystem as a source. Sockets are not there."""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from typing import IO

from services.builder.sources import XATTR, Entry
from shared.runtime.members import TAR_TYPES
from shared.runtime.openat2 import open_inside

__all__ = ["Tree"]

CAPABILITY = "security.capability"
MISSING = (FileNotFoundError, NotADirectoryError)


class Tree:
    """``root``: the descriptor of a directory that is "/" of the tree; sockets are not there."""

    def __init__(self, root: int) -> None:
        self.root = root

    def entry(self, path: str) -> Entry | None:
        try:
            handle = open_inside(self.root, path or ".", os.O_PATH | os.O_NOFOLLOW, links=False)
        except OSError as error:
            if isinstance(error, MISSING) or error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
                return None
            raise
        try:
            status = os.fstat(handle)
            kind = TAR_TYPES.get(stat.S_IFMT(status.st_mode))
            if kind is None:
                return None
            entry = Entry(kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
            entry.mtime_ns = status.st_mtime_ns
            if kind == tarfile.REGTYPE:
                entry.size = status.st_size
                entry.xattrs = _capability(handle)
                entry.identity = (status.st_dev, status.st_ino) if status.st_nlink > 1 else None
            elif kind == tarfile.SYMTYPE:
                entry.link = os.readlink("", dir_fd=handle)
            elif kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
                entry.device = (os.major(status.st_rdev), os.minor(status.st_rdev))
            return entry
        finally:
            os.close(handle)

    def names(self, path: str) -> list[str]:
        handle = open_inside(self.root, path or ".", os.O_RDONLY | os.O_DIRECTORY, links=False)
        try:
            return sorted(os.listdir(handle))  # noqa: PTH208
        finally:
            os.close(handle)

    def open(self, path: str, entry: Entry) -> IO[bytes]:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        return os.fdopen(open_inside(self.root, path, flags, links=False), "rb")


def _capability(handle: int) -> dict[str, str]:
    try:
        value = os.getxattr(f"/proc/self/fd/{handle}", CAPABILITY)
    except OSError:
        return {}
    return {f"{XATTR}{CAPABILITY}": value.decode("utf-8", "surrogateescape")}
