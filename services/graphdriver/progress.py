"""Progress: how far a layer's blob has been read, told in Docker's JSON (wire-details §6)."""

from __future__ import annotations

import io
import json
from typing import IO

from shared.bus.context import emit

__all__ = ["Watched"]

STEP = 4 << 20  # bytes between two lines


class Watched(io.RawIOBase):
    """A seekable stream that tells how much of its ``size`` bytes has been read."""

    def __init__(self, source: IO[bytes], diff_id: str, size: int) -> None:
        self._source, self._id, self._size = source, diff_id.removeprefix("sha256:")[:12], size
        self._told = -STEP

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        position = self._source.tell()
        if position - self._told >= STEP or (position == self._size and position != self._told):
            self._told = position
            detail = {"current": position, "total": self._size}
            emit(json.dumps({"status": "Loading layer", "progressDetail": detail, "id": self._id}), stream="progress")
        return data

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def readable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._source.seek(offset, whence)
