"""Sources: what COPY and ADD copy from, and where a name in them leads.

| source  | is                                                        |
|---------|-----------------------------------------------------------|
| context | a tar in a file that has no name, never unpacked (`Tar`)  |
| tree    | the root filesystem of an image, mounted (`Tree`)         |
| single  | one file: of a URL, of a here-document (`Single`)         |

Paths are relative to the source's root, clean, and empty for the root. Symlinks are followed inside the source.
"""

from __future__ import annotations

import io
import os
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Protocol, cast

from shared.bus.context import check_cancelled
from shared.dockerfile.ignore import compile_glob
from shared.protocol import InvalidArgument
from shared.runtime import links

__all__ = ["XATTR", "Entry", "Single", "Slice", "Source", "clean", "follow", "glob", "walk"]

XATTR = "SCHILY.xattr."


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


class Slice(io.RawIOBase):
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


class Single:
    """One regular file of a name."""

    def __init__(self, name: str, file: IO[bytes], entry: Entry) -> None:
        self._name, self._file, self._entry = name, file, entry

    def entry(self, path: str) -> Entry | None:
        return self._entry if path == self._name else None

    def names(self, path: str) -> list[str]:
        return []

    def open(self, path: str, entry: Entry) -> IO[bytes]:
        return cast("IO[bytes]", io.BufferedReader(Slice(self._file.fileno(), 0, entry.size), 1 << 16))
