"""Pack: files of a directory as a tar stream: links, devices, extended attributes, holes and long names as they are.

The tree may be a running container's, who changes it while it is read: every file is opened through descriptors,
without following links, and looked at before it is opened for reading. What goes away meanwhile is left out.

| kind       | in the tar                                                                 |
|------------|----------------------------------------------------------------------------|
| sparse     | GNU format 1.0 in PAX records, if that saves `WORTHWHILE` bytes            |
| attributes | ``SCHILY.xattr.NAME`` in PAX records, less overlayfs's and the host's labels |
| hard link  | to the name under which the file went out first                            |
| socket     | left out: it is of use to nobody without its process                       |
| time       | whole seconds, as Docker's: a fraction would cost a PAX header for each file |
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Protocol

from services.graphdriver.unpack import FORBIDDEN_XATTRS, XATTR
from shared.bus.context import check_cancelled
from shared.runtime.members import TAR_TYPES
from shared.runtime.openat2 import open_inside

__all__ = ["GONE", "Sink", "TreeWriter", "is_kernels", "open_directory"]

BLOCK, CHUNK = 512, 1 << 18
WORTHWHILE = 1 << 20  # bytes of holes
GONE = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)  # what a file that is replaced or removed meanwhile looks like
NO_XATTRS = (errno.ENOTSUP, errno.ENODATA)
HOSTS_XATTRS = (*FORBIDDEN_XATTRS, "security.selinux")
# proc, sysfs, cgroup, cgroup2, devpts, debugfs, tracefs, securityfs, bpf: the kernel's, not the container's (statfs(2))
KERNELS = {
    0x9FA0, 0x62656572, 0x27E0EB, 0x63677270, 0x1CD1, 0x64626720, 0x74726163, 0x73636673, 0xCAFE4A11,
}  # fmt: skip
libc = ctypes.CDLL(None, use_errno=True)


class Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


class TreeWriter:
    """Write entries of trees to ``sink``; `finish` writes the end. Errors of all: OSError, and those of the sink."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._written: dict[tuple[int, int], str] = {}  # files with several names

    def add_tree(self, root: int, path: str, name: str) -> None:
        """Write ``path``, and if it is a directory all below it, as ``name``; file systems of the kernel are empty.

        Without a name, what is in the directory is written, and not itself.
        """
        pending = [(path, name)]
        while pending:
            path, name = pending.pop()
            if not name or self.add(root, path, name):
                above = f"{name.rstrip('/')}/" if name else ""
                pending += [(f"{path}/{entry}", above + entry) for entry in sorted(_entries(root, path), reverse=True)]

    def add(self, root: int, path: str, name: str) -> bool:
        """Write one file, from the directory descriptor ``root``; True if it is a directory."""
        check_cancelled()
        try:
            with _handle(root, path) as handle:
                return self.add_handle(handle, name)
        except OSError as error:
            if error.errno not in GONE:
                raise
            return False

    def add_empty(self, name: str) -> None:
        """Write an empty file: a whiteout."""
        self._header(tarfile.TarInfo(name), 0)

    def finish(self) -> None:
        self._sink.write(bytes(2 * BLOCK))

    def add_handle(self, handle: int, name: str) -> bool:
        """Write an open file (O_PATH will do); True if it is a directory."""
        status = os.fstat(handle)
        info = _header_of(status, name)
        if info is None:
            return False
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and not info.isdir():
            if key in self._written:
                info.type, info.linkname = tarfile.LNKTYPE, self._written[key]
                self._header(info, 0)
                return False
            self._written[key] = name
        if info.issym():
            info.linkname = os.readlink("", dir_fd=handle)
        info.pax_headers = _xattrs(handle)
        if info.isreg():
            self._file(handle, info, status)
        else:
            self._header(info, 0)
        return info.isdir()

    def _header(self, info: tarfile.TarInfo, size: int) -> None:
        info.size = size
        self._sink.write(info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape"))

    def _file(self, handle: int, info: tarfile.TarInfo, status: os.stat_result) -> None:
        with open(f"/proc/self/fd/{handle}", "rb", buffering=0) as file:  # noqa: PTH123  (the very file of the handle)
            segments = [(0, status.st_size)]
            if status.st_size - status.st_blocks * BLOCK >= WORTHWHILE:
                segments = list(_segments(file.fileno(), status.st_size))
            table = b""
            stored = sum(size for _, size in segments)
            if status.st_size - stored >= WORTHWHILE:
                table = _make_sparse(info, segments, status.st_size)
            else:
                segments, stored = [(0, status.st_size)], status.st_size
            self._header(info, len(table) + stored)
            self._sink.write(table)
            for offset, size in segments:
                self._copy(file, offset, size)
            self._sink.write(bytes(-stored % BLOCK))

    def _copy(self, file: IO[bytes], offset: int, size: int) -> None:
        """Copy as many bytes as were announced: a file that has become shorter is filled up with zeros."""
        file.seek(offset)
        while size:
            check_cancelled()
            data = file.read(min(CHUNK, size)) or bytes(min(CHUNK, size))
            self._sink.write(data)
            size -= len(data)


def _header_of(status: os.stat_result, name: str) -> tarfile.TarInfo | None:
    kind = TAR_TYPES.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    info = tarfile.TarInfo(f"{name.rstrip('/')}/" if kind == tarfile.DIRTYPE else name)
    info.type, info.mode, info.mtime = kind, stat.S_IMODE(status.st_mode), int(status.st_mtime)
    info.uid, info.gid = status.st_uid, status.st_gid
    if kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    return info


def _make_sparse(info: tarfile.TarInfo, segments: list[tuple[int, int]], size: int) -> bytes:
    """Make a header one of a sparse file (GNU tar manual, PAX 1); returns the table that goes before the data."""
    facts = {"major": "1", "minor": "0", "name": info.name, "realsize": str(size)}
    info.pax_headers = {**info.pax_headers, **{f"GNU.sparse.{key}": value for key, value in facts.items()}}
    directory, _, base = info.name.rpartition("/")
    info.name = f"{directory}/GNUSparseFile.0/{base}".lstrip("/")
    numbers = [len(segments), *(number for segment in segments for number in segment)]
    table = "".join(f"{number}\n" for number in numbers).encode()
    return table + bytes(-len(table) % BLOCK)


def _segments(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (offset, size) of each run of data."""
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # a hole to the end
                return
            raise
        end = min(size, os.lseek(descriptor, start, os.SEEK_HOLE))
        if start < end:
            yield start, end - start


def _xattrs(handle: int) -> dict[str, str]:
    path = f"/proc/self/fd/{handle}"
    found = {}
    try:
        for name in os.listxattr(path):
            if not name.startswith(HOSTS_XATTRS):
                found[XATTR + name] = os.getxattr(path, name).decode("utf-8", "surrogateescape")
    except OSError as error:
        if error.errno not in NO_XATTRS:
            raise
    return found


@contextmanager
def _handle(root: int, path: str) -> Iterator[int]:
    """Open a file as a handle (O_PATH); a symlink is the file itself."""
    handle = open_inside(root, path or ".", os.O_PATH | os.O_NOFOLLOW, links=False)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def open_directory(root: int, path: str) -> Iterator[int]:
    descriptor = open_inside(root, path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, links=False)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _entries(root: int, path: str) -> list[str]:
    try:
        with open_directory(root, path) as descriptor:
            return [] if is_kernels(descriptor) else os.listdir(descriptor)  # noqa: PTH208
    except OSError as error:
        if error.errno not in GONE:
            raise
        return []


def is_kernels(descriptor: int) -> bool:
    """Say whether a file lies in a file system that shows the kernel's own state."""
    buffer = (ctypes.c_long * 32)()  # struct statfs; f_type comes first
    if libc.fstatfs(descriptor, buffer):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return buffer[0] in KERNELS
