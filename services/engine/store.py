"""Store: the one database. The engine is its only writer; what it has committed survives a power cut.

Records are JSON of msgspec Structs. One that cannot be read is moved to ``quarantine`` and reported, never fatal.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from services.engine.database import Database, Reserve
from services.engine.execs import ExecRecord
from services.engine.networks import NetworkRecord
from services.engine.record import ContainerRecord
from services.engine.volumes import VolumeRecord
from shared.protocol import Image

__all__ = ["Store", "StoreLocked"]

T = TypeVar("T")
log = logging.getLogger("dockyard.engine")

MIGRATIONS = (
    "DROP TABLE IF EXISTS jobs",  # to version 1: the job journal tells arguments and uid
    "DROP INDEX IF EXISTS jobs_parent",  # to version 2: it has the jobs that have a parent, and no others
    # to version 4: the job journal tells for whom the API asked
    "CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, parent TEXT, name TEXT, service TEXT, caller TEXT, "
    "started REAL, ended REAL, status INTEGER, message TEXT, args TEXT, uid INTEGER)",
    "ALTER TABLE jobs ADD COLUMN peer TEXT NOT NULL DEFAULT ''",
)

OUTCOME_KEPT = 600.0  # seconds; who asks again does so for some seconds after a process is back

SCHEMA = """
CREATE TABLE IF NOT EXISTS containers (id TEXT PRIMARY KEY, name TEXT UNIQUE NOT NULL, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS execs (id TEXT PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS images (id TEXT PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS tags (reference TEXT PRIMARY KEY, image TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS volumes (id TEXT PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS networks (id TEXT PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, parent TEXT, name TEXT, service TEXT, caller TEXT,
    started REAL, ended REAL, status INTEGER, message TEXT, args TEXT, uid INTEGER, peer TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS jobs_parent ON jobs (parent) WHERE parent != '';
CREATE INDEX IF NOT EXISTS jobs_started ON jobs (started);
CREATE TABLE IF NOT EXISTS outcomes (job TEXT PRIMARY KEY, ended REAL NOT NULL, result BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS quarantine (kind TEXT, id TEXT, record BLOB, reason TEXT);
"""


class StoreLocked(Exception):
    """Another engine works on this root."""


class Store:
    """`Store(root)` is the writer; `Store.for_reading` sees what it has committed, also while it is frozen."""

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o710, parents=True, exist_ok=True)
        self._lock = os.open(root / "engine.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StoreLocked(f"another engine works on {root}") from None
        path = root / "engine.db"
        path.touch(mode=0o600)
        self._reserve = Reserve(path)
        self.db = sqlite3.connect(path, isolation_level=None, factory=Database)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=FULL")
        self._migrate()
        self.db.executescript(SCHEMA)
        self._depth = 0
        self.hold_reserve()

    @classmethod
    def for_reading(cls, root: Path) -> Store:
        store = cls.__new__(cls)
        store._lock = -1
        store._depth = 0
        database = f"file:{root / 'engine.db'}?mode=ro"
        store.db = sqlite3.connect(database, uri=True, isolation_level=None, factory=Database)
        return store

    def data_version(self) -> int:
        """Return a number that changes when another connection commits (SQLite, PRAGMA data_version)."""
        return int(self.db.execute("PRAGMA data_version").fetchone()[0])

    def revision(self) -> tuple[int, int]:
        """Return what is another after each change, ours or another connection's."""
        return self.data_version(), self.db.total_changes

    def _migrate(self) -> None:
        """Bring the database of an earlier release to what `SCHEMA` expects."""
        (version,) = self.db.execute("PRAGMA user_version").fetchone()
        for statement in MIGRATIONS[version:]:
            self.db.execute(statement)
        self.db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    def close(self) -> None:
        self.db.close()
        if self._lock >= 0:
            self._reserve.close()
            os.close(self._lock)

    def hold_reserve(self) -> None:
        """Hold room for the records of what is done on a full disk; to be called now and then."""
        self._reserve.hold()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes inside durable together, or none. May be nested; the outermost commits."""
        self._depth += 1
        try:
            if self._depth == 1:
                self.db.execute("BEGIN IMMEDIATE")
            yield
            if self._depth == 1:
                self.db.execute("COMMIT")
        except BaseException:
            if self._depth == 1 and self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise
        finally:
            self._depth -= 1

    def add_container(self, record: ContainerRecord) -> None:
        row = (record.id, record.name, msgspec.json.encode(record))
        self.db.execute("INSERT INTO containers VALUES (?,?,?)", row)

    def put_container(self, record: ContainerRecord) -> None:
        """Write a record anew; one that was deleted stays so, whoever still has it in hand."""
        row = (record.name, msgspec.json.encode(record), record.id)
        self.db.execute("UPDATE containers SET name=?, record=? WHERE id=?", row)

    def delete_container(self, container_id: str) -> None:
        self.db.execute("DELETE FROM containers WHERE id=?", (container_id,))

    def containers(self) -> list[ContainerRecord]:
        return list(self._read("containers", ContainerRecord))

    def put_exec(self, record: ExecRecord) -> None:
        self.db.execute("INSERT OR REPLACE INTO execs VALUES (?,?)", (record.id, msgspec.json.encode(record)))

    def delete_exec(self, exec_id: str) -> None:
        self.db.execute("DELETE FROM execs WHERE id=?", (exec_id,))

    def execs(self) -> list[ExecRecord]:
        return list(self._read("execs", ExecRecord))

    def put_image(self, image: Image) -> None:
        self.db.execute("INSERT OR REPLACE INTO images VALUES (?,?)", (image.id, msgspec.json.encode(image)))

    def delete_image(self, image_id: str) -> None:
        self.db.execute("DELETE FROM images WHERE id=?", (image_id,))

    def images(self) -> list[Image]:
        return list(self._read("images", Image))

    def put_volume(self, record: VolumeRecord) -> None:
        self.db.execute("INSERT OR REPLACE INTO volumes VALUES (?,?)", (record.name, msgspec.json.encode(record)))

    def delete_volume(self, name: str) -> None:
        self.db.execute("DELETE FROM volumes WHERE id=?", (name,))

    def volumes(self) -> list[VolumeRecord]:
        return list(self._read("volumes", VolumeRecord))

    def put_network(self, record: NetworkRecord) -> None:
        self.db.execute("INSERT OR REPLACE INTO networks VALUES (?,?)", (record.id, msgspec.json.encode(record)))

    def delete_network(self, network_id: str) -> None:
        self.db.execute("DELETE FROM networks WHERE id=?", (network_id,))

    def networks(self) -> list[NetworkRecord]:
        return list(self._read("networks", NetworkRecord))

    def put_tag(self, reference: str, image_id: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO tags VALUES (?,?)", (reference, image_id))

    def delete_tag(self, reference: str) -> None:
        self.db.execute("DELETE FROM tags WHERE reference=?", (reference,))

    def tags(self) -> dict[str, str]:
        return dict(self.db.execute("SELECT reference, image FROM tags"))

    def fact(self, name: str, default: str) -> str:
        """Return a fact that is made once for a root (ids of built-in things) and kept."""
        query = "SELECT value FROM facts WHERE name=?"
        found = self.db.execute(query, (name,)).fetchone()
        if found is None and self._lock >= 0:
            self.db.execute("INSERT INTO facts VALUES (?,?)", (name, default))
        return str(found[0]) if found else default

    def remember(self, name: str, value: Any) -> None:
        """Keep something that drivers have told, for who reads while they or the engine are away."""
        self.db.execute("INSERT OR REPLACE INTO facts VALUES (?,?)", (name, msgspec.json.encode(value).decode()))

    def recall(self, name: str, kind: type[T]) -> T | None:
        """Return what was remembered; None if there is nothing, or nothing of that shape."""
        row = self.db.execute("SELECT value FROM facts WHERE name=?", (name,)).fetchone()
        try:
            return msgspec.json.decode(row[0], type=kind) if row else None
        except msgspec.DecodeError:
            return None

    def put_outcome(self, job_id: str, result: bytes) -> None:
        """Note that a job is done, and what it returns: as part of the transaction that makes its work durable."""
        now = time.time()
        self.db.execute("DELETE FROM outcomes WHERE ended < ?", (now - OUTCOME_KEPT,))
        self.db.execute("INSERT OR REPLACE INTO outcomes VALUES (?,?,?)", (job_id, now, result))

    def outcome(self, job_id: str) -> bytes | None:
        """Return the result of a job that is known to be done."""
        found = self.db.execute("SELECT result FROM outcomes WHERE job=?", (job_id,)).fetchone()
        return bytes(found[0]) if found else None

    def quarantined(self) -> list[tuple[str, str, str]]:
        """Return (kind, id, reason) of each record that could not be read."""
        return list(self.db.execute("SELECT kind, id, reason FROM quarantine"))

    def quarantined_records(self, kind: str) -> list[tuple[str, bytes]]:
        """Return (id, record) of those of a table that could not be read."""
        rows = self.db.execute("SELECT id, record FROM quarantine WHERE kind=?", (kind,))
        return [(id_, blob.encode() if isinstance(blob, str) else blob) for id_, blob in rows]

    def forget_quarantined(self, kind: str, record_id: str) -> None:
        self.db.execute("DELETE FROM quarantine WHERE kind=? AND id=?", (kind, record_id))

    def _read(self, table: str, kind: type[T]) -> Iterator[T]:
        rows: list[tuple[str, Any]] = self.db.execute(f"SELECT id, record FROM {table}").fetchall()
        for row_id, blob in rows:
            try:
                yield msgspec.json.decode(blob, type=kind)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                if self._lock < 0:
                    continue
                log.error("record quarantined table=%s id=%s error=%s", table, row_id, error)
                with self.transaction():
                    self.db.execute("INSERT INTO quarantine VALUES (?,?,?,?)", (table, row_id, blob, str(error)))
                    self.db.execute(f"DELETE FROM {table} WHERE id=?", (row_id,))
