"""Blobs: the content store. A blob is a file named by its digest, and it is complete or not there.

`Blobs.hold` protects digests that a load under way needs from `collect`.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from services.graphdriver.durable import Durable
from shared.protocol import InvalidArgument
from shared.protocol.reference import DIGEST

__all__ = ["Blobs", "digest_of", "is_digest"]

CHUNK = 1 << 20


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def is_digest(value: object) -> bool:
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None


class Blobs:
    """``durable``: to be settled before anybody is told of what is new."""

    def __init__(self, root: Path) -> None:
        self.durable = Durable(root)
        self._directory = root / "blobs" / "sha256"
        self._temporary = root / "tmp"
        for directory in (self._directory.parent, self._directory):
            directory.mkdir(mode=0o700, exist_ok=True)
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    def path(self, digest: str) -> Path:
        """Return where a blob is or would be. Errors: InvalidArgument (not a sha256 digest)."""
        if not is_digest(digest):
            raise InvalidArgument(f"invalid digest: {digest[:100]!r}")
        return self._directory / digest.removeprefix("sha256:")

    def has(self, digest: str) -> bool:
        return self.path(digest).exists()

    @contextmanager
    def hold(self, names: list[str]) -> Iterator[None]:
        """Keep digests and chain ids from being collected."""
        with self._lock:
            self._held.update(names)
        try:
            yield
        finally:
            with self._lock:
                self._held.subtract(names)
                self._held += Counter()

    @contextmanager
    def unheld(self, matches: Callable[[str], bool]) -> Iterator[bool]:
        """Say whether nothing that ``matches`` is held, and let nobody hold anything meanwhile."""
        with self._lock:
            yield not any(map(matches, self._held))

    def add(self, source: BinaryIO, expected: str) -> int:
        """Store a stream under its digest; returns its size. Errors: InvalidArgument (the digest is another)."""
        path = self.path(expected)
        temporary = self._temporary / secrets.token_hex(8)
        hasher, size = hashlib.sha256(), 0
        try:
            with temporary.open("xb") as file:
                while chunk := source.read(CHUNK):
                    hasher.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
                if f"sha256:{hasher.hexdigest()}" != expected:
                    raise InvalidArgument(f"blob {expected} does not match its digest: sha256:{hasher.hexdigest()}")
            with self.durable.change():
                temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
        return size

    def adopt(self, file: Path, digest: str) -> None:
        """Make a file of tmp/ a blob; the caller has taken its digest."""
        with self.durable.change():
            file.rename(self.path(digest))

    def link(self, file: Path, digest: str) -> None:
        """`adopt`, by a second name: the file stays in tmp/ too."""
        with self.durable.change(), suppress(FileExistsError):
            self.path(digest).hardlink_to(file)

    def size(self, digest: str) -> int:
        return self.path(digest).stat().st_size

    def read(self, digest: str) -> bytes:
        return self.path(digest).read_bytes()

    def collect(self, keep: set[str], is_asked: Callable[[str], bool]) -> int:
        """Remove all blobs ``is_asked`` for but ``keep`` and those that are held; returns the bytes freed."""
        found = [path for path in self._directory.iterdir() if is_asked(path.name)]
        return sum(self._remove(path) for path in found if f"sha256:{path.name}" not in keep)

    def _remove(self, path: Path) -> int:
        with self.unheld(f"sha256:{path.name}".__eq__) as free:
            if not free:
                return 0
            size = path.stat().st_size
            path.unlink()
            return size
