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
