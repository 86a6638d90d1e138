"""Paths: what `docker cp` may ask of one path of a container: its facts, its archive, or to be unpacked into."""

from __future__ import annotations

import errno
import os
import posixpath
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from services.graphdriver.contents.extract import Extraction
from services.graphdriver.contents.roots import Root, opened
from services.graphdriver.layers import Layers
from services.graphdriver.pack import Sink, TreeWriter, is_kernels
from services.graphdriver.unpack import unpack
from shared.protocol import ContainerTree, InvalidArgument, NotFound, PathStat, WritePath
from shared.runtime.user import resolve_user

__all__ = ["check_target", "read", "stat_path", "write"]

# st_mode → the bits of Go's os.FileMode beside the permissions
GO_KINDS = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
GO_BITS = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


def stat_path(layers: Layers, tree: ContainerTree, path: str) -> PathStat:
    """Errors: NotFound, InvalidArgument, OSError."""
    absolute = _absolute(path)
    with _found(layers, tree, path, os.O_PATH | os.O_NOFOLLOW) as (root, handle):
        status = os.fstat(handle)
        linked = stat.S_ISLNK(status.st_mode)
        return PathStat(
            name=_text(_base(absolute)),
            size=status.st_size,
            mode=go_mode(status.st_mode),
            mtime=_rfc3339(status.st_mtime_ns),
            link_target=_text(root.follow(absolute)) if linked else "",
        )


def read(layers: Layers, tree: ContainerTree, path: str, sink: Sink) -> None:
    """Write the archive of a file or a directory; names begin with the last part of ``path``. Errors as `stat_path`."""
    name = _base(_absolute(path))
    with _found(layers, tree, path, os.O_PATH | os.O_NOFOLLOW) as (_, handle):
        writer = TreeWriter(sink)
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            writer.add_tree(handle, "", name)
        else:
            writer.add_handle(handle, name)
        writer.finish()


def check_target(layers: Layers, job: WritePath) -> None:
    """Say what `write` would refuse before anything is sent. Errors: NotFound, InvalidArgument, OSError."""
    with _target(layers, job):
        return


def write(layers: Layers, job: WritePath, source: IO[bytes]) -> None:
    """Unpack a plain tar. Errors: NotFound, InvalidArgument, OSError, and those of ``source``."""
    with _target(layers, job) as root:
        owner = None
        if job.user:
            user = resolve_user(Path(f"/proc/self/fd/{root.descriptor}"), job.user, [])
            owner = (user.uid, user.gid)
        place = Extraction(root, _absolute(job.path), no_overwrite_dir_non_dir=job.no_overwrite_dir_non_dir)
        unpack(source, place, owner)


@contextmanager
def _target(layers: Layers, job: WritePath) -> Iterator[Root]:
    with _found(layers, job.tree, job.path, os.O_PATH) as (root, handle):
        if not stat.S_ISDIR(os.fstat(handle).st_mode):
            raise InvalidArgument("extraction point is not a directory")
        root.check_writable(_absolute(job.path))
        yield root


@contextmanager
def _found(layers: Layers, tree: ContainerTree, path: str, flags: int) -> Iterator[tuple[Root, int]]:
    """Open a path of a container. The kernel's own files in it are not there for anybody."""
    missing = NotFound(f"Could not find the file {path} in container {tree.name}")
    if not path or "\0" in path:
        raise InvalidArgument("bad parameter: path")
    with opened(layers, tree) as root:
        try:
            handle = root.open(_absolute(path), flags)
        except FileNotFoundError:
            raise missing from None
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
                raise
            raise InvalidArgument(f"{path}: {error.strerror}") from None
        try:
            if is_kernels(handle):
                raise missing
            yield root, handle
        finally:
            os.close(handle)


def _absolute(path: str) -> str:
    """Make a path absolute and clean, less a ``/`` or ``/.`` at its end, which say that a directory is meant."""
    clean = "/" + posixpath.normpath(f"/{path}").lstrip("/")
    if posixpath.basename(path) == ".":
        return f"{clean.rstrip('/')}/."
    return f"{clean}/" if path.endswith("/") and clean != "/" else clean


def _base(absolute: str) -> str:
    return posixpath.basename(absolute.rstrip("/")) or "/"


def go_mode(mode: int) -> int:
    """Return a st_mode as Go's os.FileMode."""
    bits = sum(go for unix, go in GO_BITS.items() if mode & unix)
    return mode & 0o777 | bits | GO_KINDS.get(stat.S_IFMT(mode), 0)


def _rfc3339(nanoseconds: int) -> str:
    """Return a UTC time with as many digits of fraction as it has."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    digits = f".{fraction:09d}".rstrip("0").rstrip(".")
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{digits}Z"


def _text(name: str) -> str:
    """Return a file's name as text, whatever its bytes are."""
    return os.fsencode(name).decode("utf-8", "replace")
