"""Members: tar headers of bounded cost, from a stream that is read once.

tarfile reads extended headers and maps of sparse files whole, recurses on them, and takes 25 µs for a plain header:
`Forward` counts what it reads for one member, and `Member` reads the plain ones itself.
"""

from __future__ import annotations

import stat
import struct
import tarfile
from collections.abc import Iterator
from typing import IO, Protocol, cast

__all__ = ["TAR_ERRORS", "TAR_TYPES", "Forward", "Member", "open_tar"]

MAX_EXTENDED = 1 << 20  # bytes of one extended header (names, PAX records)
MAX_HEADERS = 2 << 20  # bytes of all headers of one member, and of the map of a sparse file
PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
EXTENDED = (*PAX, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
CHUNK = 1 << 18  # bytes

# What tarfile raises on hostile input; a chain of extended headers exhausts its stack.
TAR_ERRORS = (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError)

TAR_TYPES = {  # file type of stat(2) → type of a member (a socket has none)
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}

# name, mode, uid, gid, size, mtime, checksum, type, linkname, (magic, version, names of owners), major, minor, prefix
HEADER = struct.Struct("100s8s8s8s12s12s8sc100s72x8s8s155s12x")
DEVICES = (tarfile.CHRTYPE, tarfile.BLKTYPE)
CHECKSUM = slice(148, 156)
BLANKS = 8 * ord(" ")  # the checksum's own place counts as blanks


class Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


class Forward:
    """What tarfile takes for a file: a stream with a position, which goes forwards only.

    Errors of all: tarfile.StreamError (backwards), tarfile.ReadError (it ends too early, or headers are too large),
    and those of the source.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._buffer, self._at, self._begin = b"", 0, 0  # what was read; what of it was taken; where it began
        self._left = MAX_HEADERS

    def begin_member(self) -> None:
        self._left = MAX_HEADERS

    def is_empty(self) -> bool:
        """Say, before anything is read, whether there is nothing to read."""
        self._buffer = self._source.read(CHUNK)
        return not self._buffer

    def tell(self) -> int:
        return self._begin + self._at

    def read(self, size: int) -> bytes:
        """Return bytes of headers; less than ``size`` at the end, which is that of a block."""
        self._left -= size
        if self._left < 0:
            raise tarfile.ReadError(f"headers of more than {MAX_HEADERS} bytes")
        end = self._at + size
        if end <= len(self._buffer):
            data, self._at = self._buffer[self._at : end], end
            return data
        return b"".join(self._pieces(size)) or self._fill(size)

    def seek(self, position: int) -> int:
        """Skip what is before ``position``."""
        size = position - self.tell()
        if size < 0:
            raise tarfile.StreamError("seeking backwards is not allowed")
        self._fill(size - sum(map(len, self._pieces(size))))
        return position

    def _fill(self, size: int) -> bytes:
        """At the end: take from what lacks of the last block. The docker command does not fill it."""
        size = min(size, -self.tell() % tarfile.BLOCKSIZE)
        self._begin += size
        return bytes(size)

    def drain(self) -> None:
        """Read to the end."""
        while self._source.read(CHUNK):
            pass

    def pieces(self, size: int) -> Iterator[memoryview]:
        """Yield exactly ``size`` bytes. Errors: tarfile.ReadError (there are less)."""
        for piece in self._pieces(size):
            size -= len(piece)
            yield piece
        if size:
            raise tarfile.ReadError("unexpected end of data")

    def _pieces(self, size: int) -> Iterator[memoryview]:
        while size > 0:
            if self._at == len(self._buffer):
                self._begin += self._at
                self._buffer, self._at = self._source.read(CHUNK), 0
                if not self._buffer:
                    return
            piece = memoryview(self._buffer)[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            yield piece


def open_tar(stream: Forward) -> tarfile.TarFile:
    """Errors: `TAR_ERRORS`."""
    return tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:", tarinfo=Member)


class Member(tarfile.TarInfo):
    """Errors: tarfile.ReadError (an extended header is too large, or a header is none; tarfile would end there)."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:  # type: ignore[override]
        try:
            return super().fromtarfile(archive)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from error

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:  # the point that tarfile names for overriding
        if self.type in EXTENDED and self.size > MAX_EXTENDED:
            raise tarfile.ReadError(f"an extended header of {self.size} bytes")
        member: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return member

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> Member:  # type: ignore[override]
        """Read a header as tarfile does, less the owners' names; one that is not plain (base 256, …) it reads."""
        try:
            member = cls._plain(buf, encoding, errors)
        except ValueError:
            member = None
        return member or super().frombuf(buf, encoding, errors)

    @classmethod
    def _plain(cls, buf: bytes, encoding: str, errors: str) -> Member | None:
        if len(buf) != tarfile.BLOCKSIZE:
            return None
        name, mode, uid, gid, size, mtime, checksum, kind, link, major, minor, prefix = HEADER.unpack(buf)
        if kind not in PLAIN or _octal(checksum) != sum(buf) - sum(buf[CHECKSUM]) + BLANKS:
            return None
        found = cls(_text(name, encoding, errors))
        found.mode, found.uid, found.gid = _octal(mode), _octal(uid), _octal(gid)
        found.size, found.mtime, found.chksum = _octal(size), _octal(mtime), _octal(checksum)
        found.type, found.linkname = kind, _text(link, encoding, errors)
        if kind in DEVICES:
            found.devmajor, found.devminor = _octal(major), _octal(minor)
        if kind == tarfile.AREGTYPE and found.name.endswith("/"):
            found.type = tarfile.DIRTYPE  # as before POSIX
        if found.isdir():
            found.name = found.name.rstrip("/")
        if prefix[0] and kind not in tarfile.GNU_TYPES:
            found.name = f"{_text(prefix, encoding, errors)}/{found.name}"
        return found


PLAIN = frozenset(
    {
        *(tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE),
        *(tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.XHDTYPE),
    }
)


def _octal(field: bytes) -> int:
    """Errors: ValueError (it is none; one in base 256 begins with a byte that is no digit)."""
    digits = field.partition(b"\0")[0].strip()
    if digits.isdigit():
        return int(digits, 8)
    if digits:
        raise ValueError("no octal digits")
    return 0


def _text(field: bytes, encoding: str, errors: str) -> str:
    return field.partition(b"\0")[0].decode(encoding, errors)
