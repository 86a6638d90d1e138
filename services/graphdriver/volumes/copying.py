"""Copy a tree through directory descriptors: no symlink is followed, neither in reading nor in writing."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.bus.context import check_cancelled
from shared.protocol import InvalidArgument

__all__ = ["DIRECTORY", "copy_attributes", "copy_tree", "opened"]

MAX_DEPTH = 256  # two descriptors a level are open
CHUNK = 1 << 24
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
DIRECTORY = READ | os.O_DIRECTORY
WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def copy_tree(source: int, target: int) -> None:
    """Copy all that is in one directory into another, empty one, and its attributes: both are open descriptors.

    Owner, mode, times, extended attributes and hard links are kept. Errors: OSError, InvalidArgument (too deep),
    Cancelled.
    """
    _Copy(target).directory(source, target, "", 0)


class _Copy:
    def __init__(self, top: int) -> None:
        self._top = top
        self._links: dict[tuple[int, int], str] = {}  # (device, inode) → where its first name went, below the top

    def directory(self, source: int, target: int, path: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise InvalidArgument(f"directories are nested too deeply: {path[:100]!r}")
        for name in os.listdir(source):
            check_cancelled()
            self._entry(name, source, target, f"{path}/{name}" if path else name, depth)
        copy_attributes(source, target)

    def _entry(self, name: str, source: int, target: int, path: str, depth: int) -> None:
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            with opened(name, DIRECTORY, source) as below, opened(name, DIRECTORY, target) as made:
                self.directory(below, made, path, depth + 1)
            return
        first = self._links.get((status.st_dev, status.st_ino))
        if first is not None:
            os.link(first, name, src_dir_fd=self._top, dst_dir_fd=target, follow_symlinks=False)
            return
        if status.st_nlink > 1:
            self._links[status.st_dev, status.st_ino] = path
        if stat.S_ISREG(status.st_mode):
            with opened(name, READ, source) as read, opened(name, WRITE, target) as written:
                _copy_data(read, written)
                copy_attributes(read, written)
            return
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        else:
            os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=target)
        _set_attributes(name, target, status)


@contextmanager
def opened(path: str | Path, flags: int, directory: int | None = None) -> Iterator[int]:
    """Open a path, relative to a directory if one is given, for a while. Errors: OSError."""
    descriptor = os.open(path, flags, 0o600, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _copy_data(source: int, target: int) -> None:
    while os.sendfile(target, source, None, CHUNK):
        check_cancelled()


def copy_attributes(source: int, target: int) -> None:
    """Give an open file another one's owner, mode, extended attributes and times."""
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)  # before the mode, since it clears setuid
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        try:
            os.setxattr(target, name, os.getxattr(source, name))
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.ENODATA):  # not every file system takes all
                raise
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _set_attributes(name: str, directory: int, status: os.stat_result) -> None:
    """The same by name, for what cannot be opened."""
    os.chown(name, status.st_uid, status.st_gid, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=directory)
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=directory, follow_symlinks=False)
