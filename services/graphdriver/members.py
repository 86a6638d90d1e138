"""Members: tar headers of bounded cost; tarfile reads extended headers whole, and recurses on them."""

from __future__ import annotations

import tarfile

__all__ = ["TAR_ERRORS", "Member"]

MAX_EXTENDED = 1 << 20  # bytes of one extended header (names, PAX records)
PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
EXTENDED = (*PAX, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)

# What tarfile raises on hostile input; a chain of extended headers exhausts its stack.
TAR_ERRORS = (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError)


class Member(tarfile.TarInfo):
    """Errors: tarfile.ReadError (an extended header is too large)."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Member:
        member = super().frombuf(buf, encoding, errors)
        if member.type in EXTENDED and member.size > MAX_EXTENDED:
            raise tarfile.ReadError(f"an extended header of {member.size} bytes")
        return member
