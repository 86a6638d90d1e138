"""Tars: a build's context as a source: a tar that is read where it lies, and never unpacked."""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import IO, Any, cast

from services.builder.sources import XATTR, Entry, Slice, clean
from shared.bus.context import check_cancelled
from shared.protocol import InvalidArgument
from shared.runtime.members import TAR_ERRORS, Member

__all__ = ["Tar"]


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
        return cast("IO[bytes]", io.BufferedReader(Slice(self._file.fileno(), *entry.place), 1 << 16))


def _mtime(member: tarfile.TarInfo) -> int:
    try:
        nanoseconds = int(Decimal(member.pax_headers.get("mtime", member.mtime)) * 1_000_000_000)
    except (InvalidOperation, ValueError, OverflowError):
        return 0
    return nanoseconds if abs(nanoseconds) < 1 << 63 else 0


def _stored(member: tarfile.TarInfo) -> int:
    """Return how many bytes of a member come after its headers."""
    return member.size if member.isreg() or member.type not in tarfile.SUPPORTED_TYPES else 0
