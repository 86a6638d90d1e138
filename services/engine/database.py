"""Database: SQLite as the engine needs it: on a full disk it has room still, and says in our words when it has not.

On a full disk whatever ends or removes something must be recorded, or nobody can make room. So blocks are held for the
database beyond the ends of its files, where it writes next, and where nothing sees them (fallocate(2),
FALLOC_FL_KEEP_SIZE). A file system that cannot do this gives no reserve, and no error.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sqlite3
from pathlib import Path
from typing import Any

from shared.protocol import DockyardError

__all__ = ["Database", "Reserve"]

RESERVE = 4 << 20  # bytes held beyond the end of each file: a write-ahead log between two checkpoints
FALLOC_FL_KEEP_SIZE = 1
log = logging.getLogger("dockyard.engine")
libc = ctypes.CDLL(None, use_errno=True)


class Database(sqlite3.Connection):
    """A connection whose statements raise DockyardError where the disk has no room for them."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        try:
            return super().execute(sql, parameters)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                message = "the engine's records cannot be written: no space left on device"
                raise DockyardError(message) from error
            raise


class Reserve:
    """The blocks held for the database at ``path``. To be made before it is connected to, and closed after.

    In between, to close any descriptor of its file would end its locks (fcntl(2), "Record locking").
    """

    def __init__(self, path: Path) -> None:
        self._paths = [path, path.with_name(f"{path.name}-wal")]
        self._files: dict[Path, int] = {}
        self.hold()

    def hold(self) -> None:
        """Hold the blocks again of which the database has used some. Never fails."""
        for path in self._paths:
            try:
                if path not in self._files:
                    self._files[path] = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                descriptor = self._files[path]
                self._allocate(descriptor, os.fstat(descriptor).st_size + RESERVE)
            except FileNotFoundError:  # SQLite makes its log with the first statement
                continue
            except OSError as error:
                log.debug("no room held file=%s error=%s", path, error)

    @staticmethod
    def _allocate(descriptor: int, end: int) -> None:
        arguments = descriptor, FALLOC_FL_KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(end)
        if libc.fallocate(*arguments):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def close(self) -> None:
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()
