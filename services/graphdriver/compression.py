"""Compression: what a stream is packed with is seen from its first bytes, never believed from a label."""

from __future__ import annotations

import gzip
import zlib
from typing import IO, cast

import zstandard

from shared.protocol import InvalidArgument

__all__ = ["ERRORS", "decompressed"]

ERRORS = (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError)  # of the data, not of the disk
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}


def decompressed(file: IO[bytes]) -> IO[bytes]:
    """Return a stream of the plain bytes of a seekable file. Errors: InvalidArgument (bzip2, xz)."""
    head = file.read(6)
    file.seek(0)
    if head.startswith(GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb"))
    if head.startswith(ZSTD):
        return zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    for magic, name in OTHERS.items():
        if head.startswith(magic):
            raise InvalidArgument(f"{name} compression is not supported; use gzip, zstd or none")
    return file
