"""Ahead: a stream that a thread of its own reads before it is asked for, so that who unpacks does not wait for that.

Decompression and hashes leave the interpreter's lock to others, as does most that makes files.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shared.runtime.members import Source

__all__ = ["ahead"]

CHUNK, DEPTH = 1 << 18, 8  # bytes, and how many pieces are ready at most


@contextmanager
def ahead(source: Source) -> Iterator[Source]:
    """Have ``source`` read ahead; what it raises is raised to who reads. At the end nobody reads it any more."""
    reader = _Ahead(source)
    thread = threading.Thread(target=contextvars.copy_context().run, args=(reader.run,), name="ahead", daemon=True)
    thread.start()
    try:
        yield reader
    finally:
        reader.stop()
        thread.join()


class _Ahead:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._ready: queue.Queue[bytes | Exception] = queue.Queue(DEPTH)
        self._rest: bytes | Exception = b""
        self._stopped = False

    def run(self) -> None:
        while not self._stopped:
            try:
                piece: bytes | Exception = self._source.read(CHUNK)
            except Exception as error:
                piece = error
            self._ready.put(piece)
            if not piece or isinstance(piece, Exception):
                return

    def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes; at the end none, or again the exception that ended it."""
        if not self._rest:
            self._rest = self._ready.get()
        if isinstance(self._rest, Exception):
            raise self._rest
        piece = self._rest
        if not piece:
            self._ready.put(b"")  # it stays the end
            return b""
        if 0 <= size < len(piece):
            self._rest = piece[size:]
            return piece[:size]
        self._rest = b""
        return piece

    def stop(self) -> None:
        self._stopped = True
        while True:  # the thread puts one piece more at the most
            try:
                self._ready.get_nowait()
            except queue.Empty:
                return
