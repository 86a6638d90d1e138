"""Journal: which jobs ran, for `dockyard jobs` and `dockyard trace`. Written in batches, a second late at most.

It tells of the engine's work and is no part of it: entries that cannot be written are dropped, with a line in the log.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Iterable
from operator import attrgetter

import msgspec

from services.engine.flights import Flight, Flights
from services.engine.store import Store
from shared.protocol import DockyardError, Header, ListJobs, PastJob

__all__ = ["UNRECORDED", "Journal", "caller_of"]

log = logging.getLogger("dockyard.engine")

INTERVAL = 1.0  # seconds between writes
KEPT = 500_000  # jobs, at most
FORGOTTEN_MORE = 1_000  # entries that go at once beside one for each that comes: the engine never pauses for long
# asked all the time, tell nothing
UNRECORDED = frozenset(
    {
        "ping", "events", "await_service", "services", "jobs", "metrics", "container_stats", "runtime_stats",
        "network_denials",
    }
)  # fmt: skip
FIELDS = ("id", "parent", "name", "service", "caller", "started", "ended", "status", "message", "args", "uid", "peer")
COLUMNS = ", ".join(FIELDS)
_row = attrgetter(*FIELDS)
IS_OLD = "SELECT 1 FROM jobs WHERE started < ? LIMIT 1"
FORGET_OLD = "DELETE FROM jobs WHERE rowid IN (SELECT rowid FROM jobs WHERE started < ? LIMIT ?)"
FORGET_MANY = (
    "DELETE FROM jobs WHERE rowid IN "
    "(SELECT rowid FROM jobs WHERE rowid <= (SELECT max(rowid) FROM jobs) - ? ORDER BY rowid LIMIT ?)"
)
TREE = (
    "WITH RECURSIVE tree(id) AS (SELECT id FROM jobs WHERE id BETWEEN ? AND ?||'g' UNION "
    "SELECT jobs.id FROM jobs JOIN tree ON jobs.parent = tree.id AND jobs.parent != '') "
    f"SELECT {COLUMNS} FROM jobs WHERE id IN tree"
)


class Journal:
    """``retention``: seconds after which an entry is forgotten, if `KEPT` others have not come first."""

    def __init__(self, store: Store, retention: float) -> None:
        self._store = store
        self._retention = retention
        self._pending: list[PastJob] = []

    def note(self, flight: Flight) -> None:
        if flight.header.name not in UNRECORDED:
            self._pending.append(entry(flight))

    def _oldest(self) -> float:
        return time.time() - self._retention

    def flush(self) -> None:
        rows = [_row(job) for job in self._pending]
        self._pending.clear()
        try:
            if rows or self._has_old():
                self._write(rows)
        except (DockyardError, sqlite3.Error) as error:
            log.error("%d entries of the job journal lost error=%s", len(rows), error)

    def _has_old(self) -> bool:
        return self._store.db.execute(IS_OLD, (self._oldest(),)).fetchone() is not None

    def _write(self, rows: list[tuple[object, ...]]) -> None:
        """Write entries, and forget some that are old or too many."""
        with self._store.transaction():
            self._store.db.executemany(
                f"INSERT OR REPLACE INTO jobs ({COLUMNS}) VALUES ({','.join('?' * len(FIELDS))})", rows
            )
            at_once = len(rows) + FORGOTTEN_MORE
            self._store.db.execute(FORGET_OLD, (self._oldest(), at_once))
            self._store.db.execute(FORGET_MANY, (KEPT, at_once))
        self._store.hold_reserve()

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            self.flush()

    def find(self, request: ListJobs, flights: Flights) -> list[PastJob]:
        """Return jobs that are under way, then past ones, each newest first; a trace is in order of start."""
        if request.trace:
            return self._trace(request.trace, flights)
        running = [job for job in _running(flights) if _wanted(job, request)]
        if request.running:
            return running[: request.limit]
        return (running + self._past(request))[: request.limit]

    def _past(self, request: ListJobs) -> list[PastJob]:
        self.flush()
        where = ["started >= ?"]
        parameters: list[object] = [max(request.since, self._oldest())]
        if request.name:
            where.append("name = ?")
            parameters.append(request.name)
        if request.failed:
            where.append("status != 0")
        query = f"SELECT {COLUMNS} FROM jobs WHERE {' AND '.join(where)} ORDER BY started DESC LIMIT ?"
        return self._select(query, (*parameters, request.limit))

    def _trace(self, job_id: str, flights: Flights) -> list[PastJob]:
        """Return a job (an id or a prefix of it) and all its descendants."""
        self.flush()
        oldest = self._oldest()
        found = [job for job in self._select(TREE, (job_id, job_id)) if job.started >= oldest]
        known = {job.id for job in found}
        for job in reversed(_running(flights)):
            if job.id not in known and (job.id.startswith(job_id) or job.parent in known):
                known.add(job.id)
                found.append(job)
        return sorted(found, key=lambda job: job.started)

    def _select(self, query: str, parameters: Iterable[object]) -> list[PastJob]:
        rows = self._store.db.execute(query, tuple(parameters)).fetchall()
        return [PastJob(**dict(zip(FIELDS, row, strict=True))) for row in rows]


def _wanted(job: PastJob, request: ListJobs) -> bool:
    return job.started >= request.since and request.name in ("", job.name) and not request.failed


def _running(flights: Flights) -> list[PastJob]:
    """Return the jobs under way, newest first, each with what it waits for."""
    shown = [flight for flight in flights if flight.header.name not in UNRECORDED]
    children: dict[str, Flight] = {}
    for flight in sorted(shown, key=lambda flight: flight.started, reverse=True):
        children[flight.header.parent] = flight  # in the end the oldest of each parent
    return [
        _with_wait(flight, children.get(flight.header.id))
        for flight in sorted(shown, key=lambda flight: flight.started, reverse=True)
    ]


def _with_wait(flight: Flight, child: Flight | None) -> PastJob:
    waiting = flight.context.waiting
    if waiting is None and child is not None:
        waiting = (f"{child.header.name} at {child.service or 'nobody yet'}", child.started)
    what, since = waiting or ("", None)
    return msgspec.structs.replace(entry(flight), waiting=what, waiting_since=since, deadline=flight.context.remaining)


def _note(flight: Flight) -> str:
    """Say of a job that was lost with a process, and asked again, that this is why it shows up once."""
    if not flight.header.again:
        return ""
    return "asked again" if flight.status is None else "asked again, done"


def caller_of(header: Header) -> str:
    return f"{header.caller.service}[{header.caller.pid}]" if header.caller else ""


def entry(flight: Flight) -> PastJob:
    header = flight.header
    return PastJob(
        id=header.id,
        parent=header.parent,
        name=header.name,
        service=flight.service,
        caller=caller_of(header),
        started=flight.started,
        ended=flight.ended,
        status=flight.status,
        message=flight.message or _note(flight),
        args=flight.args,
        uid=header.caller.uid if header.caller else 0,
        peer=header.caller.peer if header.caller else "",
    )
