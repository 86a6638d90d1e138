"""Sources: what COPY and ADD copy from, and where a name in them leads.

| source  | is                                                        |
|---------|-----------------------------------------------------------|
| context | a tar in a file that has no name, never unpacked (`Tar`)  |
| tree    | the root filesystem of an image, mounted (`Tree`)         |
| single  | one file: of a URL, of a here-document (`Single`)         |

Paths are relative to the source's root, clean, and empty for the root. Symlinks are followed inside the source.
"""

from __future__ import annotations

import errno
import io
import os
import posixpath
import stat
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import IO, Any, Protocol, cast

from shared.bus.context import check_cancelled
from shared.dockerfile.ignore import compile_glob
from shared.protocol import InvalidArgument
from shared.runtime import links
from shared.runtime.members import TAR_ERRORS, TAR_TYPES, Member
from shared.runtime.openat2 import open_inside

__all__ = ["Entry", "Single", "Source", "Tar", "Tree", "clean", "follow", "glob", "walk"]

XATTR = "SCHILY.xattr."
CAPABILITY = "security.capability"
MISSING = (FileNotFoundError, NotADirectoryError)


@dataclass(slots=True)
class Entry:
    """``kind`` is a type of tarfile's; ``identity`` the same for all names of one file, None if it has but one."""

    kind: bytes
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    link: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[str, str] = field(default_factory=dict)
    identity: Any = None
    place: Any = None  # where its bytes are

    @property
    def is_directory(self) -> bool:
        return self.kind == tarfile.DIRTYPE

    @property
    def is_file(self) -> bool:
        return self.kind == tarfile.REGTYPE


class Source(Protocol):
    def entry(self, path: str) -> Entry | None:
        """Return what is there, a symlink as itself. Errors: OSError."""
        ...

    def names(self, path: str) -> list[str]:
        """Return the names in a directory, sorted."""
        ...

    def open(self, path: str, entry: Entry) -> IO[bytes]:
        """Open a regular file."""
        ...


def clean(path: str) -> str:
    """Return a path relative to the root, without ``.``, ``..`` and slashes around; ``..`` at the top is the top."""
    return posixpath.normpath(f"/{path}").strip("/")


def follow(source: Source, path: str) -> str:
    """Resolve all symlinks of a path as far as it exists. Errors: InvalidArgument (too many)."""

    def link(here: str) -> str | None:
        entry = source.entry(here)
        return entry.link if entry is not None and entry.kind == tarfile.SYMTYPE else None

    resolved = "/".join(links.follow(path, link))
    if link(resolved) is not None:
        raise InvalidArgument(f"too many links: {path}")
    return resolved


def glob(source: Source, pattern: str) -> list[str]:
    """Return the paths that a pattern names, sorted; ``*`` stops at a slash, ``**`` does not."""
    found = [""]
    parts = pattern.split("/")
    for number, part in enumerate(parts):
        if not any(sign in part for sign in "*?[\\"):
            found = [path for path in (f"{above}/{part}".strip("/") for above in found) if source.entry(path)]
            found = found if number == len(parts) - 1 else [follow(source, path) for path in found]
        elif "**" in part:
            expression = compile_glob("/".join(parts[number:]))
            below = ((above, path) for above in found for path, _ in walk(source, above) if path)
            paths = (f"{above}/{path}".strip("/") for above, path in below if expression.fullmatch(path))
            return sorted(set(paths))
        else:
            expression = compile_glob(part)
            names = ((above, name) for above in found if _is_directory(source, above) for name in source.names(above))
            found = [f"{above}/{name}".strip("/") for above, name in names if expression.fullmatch(name)]
    return sorted(set(found))


def _stored(member: tarfile.TarInfo) -> int:
    """Return how many bytes of a member come after its headers."""
    return member.size if member.isreg() or member.type not in tarfile.SUPPORTED_TYPES else 0


def _is_directory(source: Source, path: str) -> bool:
    entry = source.entry(path)
    return entry is not None and entry.is_directory


def walk(source: Source, path: str) -> Iterator[tuple[str, Entry]]:
    """Yield (path below ``path``, entry) of all that is there, itself first, directories before what is in them."""
    pending = [""]
    while pending:
        check_cancelled()
        below = pending.pop()
        entry = source.entry(f"{path}/{below}".strip("/"))
        if entry is None:
            continue
        yield below, entry
        if entry.is_directory:
            names = source.names(f"{path}/{below}".strip("/"))
            pending += [f"{below}/{name}".strip("/") for name in reversed(names)]


class Tar:
    """``file``: a plain tar, seekable and writable. Errors: InvalidArgument, OSError."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._entries: dict[str, Entry] = {"": Entry(tarfile.DIRTYPE, 0o755)}
        self._children: defaultdict[str, set[str]] = defaultdict(set)
        try:
            self._read()
        except TAR_ERRORS as error:
            raise InvalidArgument(f"Error processing tar file: {error}") from error
        self.leave_out(lambda path: False)

    def _read(self) -> None:
        size = self._file.seek(0, io.SEEK_END)
        if not size:
            return
        self._file.write(bytes(-size % tarfile.BLOCKSIZE))  # the docker command does not fill the last block
        self._file.seek(0)
        self._archive = archive = tarfile.open(fileobj=self._file, mode="r:", tarinfo=Member)  # noqa: SIM115
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]
            check_cancelled()
            if (archive.offset if member.sparse else member.offset_data + _stored(member)) > size:
                raise tarfile.ReadError("unexpected end of data")
            self._add(member)

    def _add(self, member: tarfile.TarInfo) -> None:
        path = self._path(member.name)
        if member.islnk():
            target = self._entries.get(self._path(member.linkname))
            if target is None or target.is_directory:
                raise InvalidArgument(f"Error processing tar file: {member.name!r} links to what is not there")
            target.identity = target.identity or ("tar", member.linkname)
            self._entries[path] = target
            return
        if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.GNUTYPE_SPARSE, tarfile.CONTTYPE):
            place: Any = (member.offset_data, member.size) if member.sparse is None else member
            entry = Entry(tarfile.REGTYPE, member.mode & 0o7777, size=member.size, place=place)
        else:
            entry = Entry(member.type, member.mode & 0o7777, link=member.linkname)
            entry.device = (member.devmajor, member.devminor)
        entry.uid, entry.gid, entry.mtime_ns = member.uid, member.gid, _mtime(member)
        entry.xattrs = {key: value for key, value in member.pax_headers.items() if key.startswith(XATTR)}
        self._entries[path] = entry

    def _path(self, name: str) -> str:
        if ".." in name.split("/") or "\0" in name:
            raise InvalidArgument(f"Error processing tar file: {name!r} leads out of the context")
        return clean(name)

    def leave_out(self, left_out: Callable[[str], bool]) -> None:
        """Forget some paths, but not the directories of what stays; those that the tar does not name are made."""
        self._children.clear()
        kept = {path: entry for path, entry in self._entries.items() if not path or not left_out(path)}
        for path in list(kept):
            here = path
            while here:
                above = posixpath.dirname(here)
                self._children[above].add(posixpath.basename(here))
                if above not in kept or not kept[above].is_directory:
                    made = self._entries.get(above)
                    kept[above] = made if made is not None and made.is_directory else Entry(tarfile.DIRTYPE, 0o755)
                here = above
        self._entries = kept

    def entry(self, path: str) -> Entry | None:
        return self._entries.get(path)

    def names(self, path: str) -> list[str]:
        return sorted(self._children.get(path, ()))

    def open(self, path: str, entry: Entry) -> IO[bytes]:
        if isinstance(entry.place, tarfile.TarInfo):
            content = self._archive.extractfile(entry.place)
            assert content is not None
            return content
        return cast("IO[bytes]", io.BufferedReader(_Slice(self._file.fileno(), *entry.place), 1 << 16))


class _Slice(io.RawIOBase):
    """A part of a file, read without moving what others read of it."""

    def __init__(self, descriptor: int, offset: int, size: int) -> None:
        self._descriptor, self._at, self._end = descriptor, offset, offset + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)[: max(0, self._end - self._at)]  # type: ignore[arg-type]
        count = os.preadv(self._descriptor, [view], self._at) if view else 0
        if view and not count:
            raise EOFError("the archive ends too early")
        self._at += count
        return count


def _mtime(member: tarfile.TarInfo) -> int:
    try:
        nanoseconds = int(Decimal(member.pax_headers.get("mtime", member.mtime)) * 1_000_000_000)
    except (InvalidOperation, ValueError, OverflowError):
        return 0
    return nanoseconds if abs(nanoseconds) < 1 << 63 else 0


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


class Single:
    """One regular file of a name."""

    def __init__(self, name: str, file: IO[bytes], entry: Entry) -> None:
        self._name, self._file, self._entry = name, file, entry

    def entry(self, path: str) -> Entry | None:
        return self._entry if path == self._name else None

    def names(self, path: str) -> list[str]:
        return []

    def open(self, path: str, entry: Entry) -> IO[bytes]:
        return cast("IO[bytes]", io.BufferedReader(_Slice(self._file.fileno(), 0, entry.size), 1 << 16))
