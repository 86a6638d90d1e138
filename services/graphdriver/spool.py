"""Spool: the files of an archive as it comes, each on disk once, with its digest; a layer becomes a blob by a link.

What is no regular file, and no link to one, is passed over, as are names that lead out.
"""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from services.graphdriver.unpack import MAX_UNPACKED
from shared.bus.context import check_cancelled
from shared.protocol import InvalidArgument
from shared.runtime.compression import ERRORS
from shared.runtime.members import TAR_ERRORS, Forward, Source, open_tar

__all__ = ["MAX_MEMBERS", "Spool", "Spooled"]

BROKEN: tuple[type[Exception], ...] = (*TAR_ERRORS, *ERRORS)
MAX_MEMBERS = 100_000  # of an archive
CHUNK = 1 << 20


@dataclass(frozen=True)
class Spooled:
    """A file of the archive; ``name`` is what it was asked for as."""

    name: str
    path: Path
    size: int
    digest: str


class Spool:
    """``directory`` is the caller's to remove. Errors of all: InvalidArgument, OSError (and those of what is read)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, Spooled] = {}
        self._links: dict[str, str] = {}
        self._count = 0

    def take(self, source: Source) -> None:
        """Read a plain tar to its end."""
        stream = Forward(_Limited(source))
        try:
            with open_tar(stream) as archive:
                for _ in range(MAX_MEMBERS):
                    if (member := archive.next()) is None:
                        break
                    archive.members.clear()  # type: ignore[attr-defined]
                    check_cancelled()
                    self._member(stream, member)
                    stream.begin_member()
                else:
                    raise InvalidArgument(f"invalid archive: it has more than {MAX_MEMBERS} members")
            stream.drain()
        except BROKEN as error:
            raise InvalidArgument(f"invalid archive: {error}") from error

    def _member(self, stream: Forward, member: tarfile.TarInfo) -> None:
        if ".." in member.name.split("/"):
            return
        name = _absolute(member.name)
        self._files.pop(name, None)  # the last of several counts
        self._links.pop(name, None)
        if member.issym():
            self._links[name] = str(PurePosixPath(name).parent / member.linkname)
        elif member.islnk():
            self._links[name] = member.linkname
        elif member.isreg():
            self._files[name] = self._file(stream, member)

    def _file(self, stream: Forward, member: tarfile.TarInfo) -> Spooled:
        self._count += 1
        path = self._directory / str(self._count)
        hasher = hashlib.sha256()
        with path.open("xb", buffering=0) as file:
            for piece in stream.pieces(member.size):
                hasher.update(piece)
                while piece:
                    piece = piece[file.write(piece) :]  # noqa: PLW2901
        return Spooled(member.name, path, member.size, f"sha256:{hasher.hexdigest()}")

    def find(self, name: str) -> Spooled | None:
        """Return a file; old docker archives have symlinks between layers."""
        path = _absolute(name)
        for _ in range(2):
            if path in self._files:
                return self._files[path]
            if path not in self._links:
                break
            path = _absolute(self._links[path])
        return None


def _absolute(name: str) -> str:
    """Return a name from the archive's root on, as if that were the host's: nothing is above it."""
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


class _Limited:
    def __init__(self, source: Source) -> None:
        self._source, self._left = source, MAX_UNPACKED

    def read(self, size: int, /) -> bytes:
        check_cancelled()
        data = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise InvalidArgument(f"invalid archive: it unpacks to more than {MAX_UNPACKED} bytes")
        return data
