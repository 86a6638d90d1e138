"""Compression: what a stream is packed with is seen from its first bytes, never believed from a label."""

from __future__ import annotations

import bz2
import io
import lzma
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast

import zstandard
from isal import igzip_lib

__all__ = ["ERRORS", "MAX_UNPACKED", "decompressed", "unpacked"]

ISAL_ERROR = cast("type[Exception]", igzip_lib.error)  # its stub has an instance
ERRORS: tuple[type[Exception], ...] = (EOFError, ISAL_ERROR, zstandard.ZstdError, lzma.LZMAError)
"""Of the data, not of the disk."""
MAX_UNPACKED = 64 << 30  # bytes that one archive may unpack to
MAX_WINDOW = 256 << 20  # bytes of memory that a stream may ask for
HEAD = 6  # bytes that tell the formats apart
CHUNK = 1 << 18  # bytes unpacked at a time


def decompressed(file: IO[bytes]) -> IO[bytes]:
    """Return a stream of the plain bytes of a seekable file; ``file`` itself if they are plain."""
    head = file.read(HEAD)
    file.seek(0)
    return _reader(head, file) or file


def unpacked(source: IO[bytes]) -> IO[bytes]:
    """Return a stream of the plain bytes of one that cannot seek."""
    head = source.read(HEAD)
    whole = cast("IO[bytes]", io.BufferedReader(_Joined(head, source), CHUNK))
    return _reader(head, whole) or whole


def _reader(head: bytes, file: IO[bytes]) -> IO[bytes] | None:
    for magic, packing in FORMATS.items():
        if head.startswith(magic):
            return cast("IO[bytes]", io.BufferedReader(_Inflating(file, packing), CHUNK))
    return None


class _Joined(io.RawIOBase):
    """What was read of a stream already, and the rest of it."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self._head[: len(view)] or self._rest.read(len(view))
        self._head = self._head[len(view) :]
        view[: len(data)] = data
        return len(data)


class _Decompressor(Protocol):
    """What bz2's and lzma's have in common."""

    eof: bool
    needs_input: bool
    unused_data: bytes

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Zstd:
    """zstandard's in the same shape. It cannot be told to stop, so it gets little: 1 KiB makes 32 MiB at the most."""

    needs_input = True

    def __init__(self) -> None:
        self._inner = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(data)


@dataclass(frozen=True)
class _Packing:
    """``size``: bytes that a decompressor gets at a time."""

    new: Callable[[], Any]
    size: int = 1 << 16


FORMATS = {
    b"\x1f\x8b": _Packing(lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)),
    b"\x28\xb5\x2f\xfd": _Packing(_Zstd, 1 << 10),
    b"BZh": _Packing(bz2.BZ2Decompressor),
    b"\xfd7zXZ\0": _Packing(lambda: lzma.LZMADecompressor(memlimit=MAX_WINDOW)),
}


class _Inflating(io.RawIOBase):
    """A stream, or several one after another, through a decompressor. One that is cut off is an EOFError.

    Zeros after a stream are padding, as of what was written in blocks.
    """

    def __init__(self, source: IO[bytes], packing: _Packing) -> None:
        self._source, self._packing = source, packing
        self._current: _Decompressor = packing.new()
        self._plain = memoryview(b"")  # unpacked and not read yet

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        while not self._plain:
            if self._current.eof:
                data = self._next_stream()
                if not data:
                    return 0
                self._current = self._packing.new()
            else:
                data = self._source.read(self._packing.size) if self._current.needs_input else b""
                if not data and self._current.needs_input:
                    raise EOFError("compressed data ended before its end-of-stream marker was reached")
            self._plain = memoryview(_decompress(self._current, data, CHUNK))
        piece, self._plain = self._plain[: len(view)], self._plain[len(view) :]
        view[: len(piece)] = piece
        return len(piece)

    def _next_stream(self) -> bytes:
        data = self._current.unused_data or self._source.read(self._packing.size)
        while data and not (rest := data.lstrip(b"\0")):
            data = self._source.read(self._packing.size)
        return rest if data else b""


def _decompress(decompressor: _Decompressor, data: bytes, size: int) -> bytes:
    try:
        return decompressor.decompress(data, size)
    except OSError as error:  # bz2 says it so, as if the disk had failed
        raise EOFError(str(error)) from error
