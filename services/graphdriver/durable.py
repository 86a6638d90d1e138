"""Durable: what was made in the store is on disk before anybody is told of it.

One syncfs(2) before an image is recorded, instead of an fsync(2) for each of its files: what lies in the store without
a record is removed at the next boot, so that it does not matter in which state a power failure leaves it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.graphdriver.syscalls import sync_file_system

__all__ = ["Durable"]


class Durable:
    """``root``: a directory of the file system. ``changes``: how often something was made visible."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._changed, self.changes = True, 0  # by an earlier process, maybe
        self._flag, self._syncing = threading.Lock(), threading.Lock()

    @contextmanager
    def change(self) -> Iterator[None]:
        """Make something visible. Whoever sees it, sees that there is something to `settle`."""
        with self._flag:
            self._changed = True
            self.changes += 1
            yield

    def settle(self) -> None:
        """Return when all that is visible is on disk. Errors: OSError (it is not, and will be tried again)."""
        with self._syncing:
            with self._flag:
                due, self._changed = self._changed, False
            if not due:
                return
            try:
                sync_file_system(self._root)
            except OSError:
                self._changed = True
                raise
