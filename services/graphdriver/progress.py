"""Progress: how far a layer's blob has been read or sent, told in Docker's JSON (wire-details §6)."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import IO, Any

from shared.bus.context import emit

__all__ = ["Watched", "progress", "tell"]

STEP = 4 << 20  # bytes between two lines
Told = Callable[[int, int], None]


def tell(status: str, layer: str = "", **fields: Any) -> None:
    """Send one line. ``layer``: a digest, or whatever else stands before the status."""
    line: dict[str, Any] = {"status": status, **fields}
    if layer:
        line["id"] = layer.removeprefix("sha256:")[:12] if layer.startswith("sha256:") else layer
    emit(json.dumps(line), stream="progress")


def progress(layer: str, status: str) -> Told:
    """Return what tells of (current, total) bytes of a layer."""
    return lambda current, total: tell(status, layer, progressDetail={"current": current, "total": total})


class Watched(io.RawIOBase):
    """A seekable stream that tells how much of its ``size`` bytes has been read."""

    def __init__(self, source: IO[bytes], size: int, told: Told) -> None:
        self._source, self._size, self._tell = source, size, told
        self._told = -STEP

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        position = self._source.tell()
        if position - self._told >= STEP or (position == self._size and position != self._told):
            self._told = position
            self._tell(position, self._size)
        return data

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._source.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._source.seek(offset, whence)
