"""Hashing: a stream whose digest is known when it has been read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import IO

from shared.protocol import InvalidArgument

__all__ = ["Hashing"]


class Hashing:
    """A readable stream that hashes what is read. Errors: InvalidArgument (more than ``limit`` bytes), ``check``'s."""

    def __init__(self, source: IO[bytes], limit: int, check: Callable[[], None]) -> None:
        self._source, self._hasher = source, hashlib.sha256()
        self._left, self._limit, self._check = limit, limit, check

    def read(self, size: int = -1) -> bytes:
        self._check()
        data = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise InvalidArgument(f"invalid layer: it unpacks to more than {self._limit} bytes")
        self._hasher.update(data)
        return data

    def digest(self) -> str:
        while self.read(1 << 20):
            pass
        return f"sha256:{self._hasher.hexdigest()}"
