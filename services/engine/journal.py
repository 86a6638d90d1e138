"""Journal: which jobs ran, for `dockyard jobs` and `dockyard trace`. Written in batches, a second late at most."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from services.engine.flights import Flight, Flights
from services.engine.store import Store
from shared.protocol import PastJob

__all__ = ["Journal"]

INTERVAL = 1.0  # seconds between writes
# asked all the time, tell nothing
UNRECORDED = frozenset({"ping", "events", "await_service", "services", "container_stats", "runtime_stats"})
COLUMNS = "id, parent, name, service, caller, started, ended, status, message"


class Journal:
    def __init__(self, store: Store, retention: float) -> None:
        self._store = store
        self._retention = retention
        self._pending: list[PastJob] = []

    def note(self, flight: Flight) -> None:
        if flight.header.name not in UNRECORDED:
            self._pending.append(entry(flight))

    def flush(self) -> None:
        if not self._pending:
            return
        rows = [
            (j.id, j.parent, j.name, j.service, j.caller, j.started, j.ended, j.status, j.message)
            for j in self._pending
        ]
        self._pending.clear()
        with self._store.transaction():
            self._store.db.executemany("INSERT OR REPLACE INTO jobs VALUES (?,?,?,?,?,?,?,?,?)", rows)
            self._store.db.execute("DELETE FROM jobs WHERE started < ?", (time.time() - self._retention,))

    async def keep(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            self.flush()

    def latest(self, limit: int) -> list[PastJob]:
        self.flush()
        return self._select(f"SELECT {COLUMNS} FROM jobs ORDER BY started DESC LIMIT ?", (limit,))

    def running(self, flights: Flights) -> list[PastJob]:
        """Return the jobs under way, newest first."""
        shown = [flight for flight in flights if flight.header.name not in UNRECORDED]
        return [entry(flight) for flight in sorted(shown, key=lambda flight: flight.started, reverse=True)]

    def trace(self, job_id: str, running: Flights) -> list[PastJob]:
        """Return a job (an id or a prefix of it) and all its descendants, in order of start."""
        self.flush()
        past = self._select(
            f"WITH RECURSIVE tree(id) AS (SELECT id FROM jobs WHERE id LIKE ?||'%' UNION SELECT jobs.id FROM jobs "
            f"JOIN tree ON jobs.parent = tree.id) SELECT {COLUMNS} FROM jobs WHERE id IN tree",
            (job_id,),
        )
        known = {job.id for job in past}
        for flight in sorted(running, key=lambda flight: flight.started):
            header = flight.header
            if header.id not in known and (header.id.startswith(job_id) or header.parent in known):
                known.add(header.id)
                past.append(entry(flight))
        return sorted(past, key=lambda job: job.started)

    def _select(self, query: str, parameters: Iterable[object]) -> list[PastJob]:
        rows = self._store.db.execute(query, tuple(parameters)).fetchall()
        return [
            PastJob(
                id=r[0],
                parent=r[1],
                name=r[2],
                service=r[3],
                caller=r[4],
                started=r[5],
                ended=r[6],
                status=r[7],
                message=r[8],
            )
            for r in rows
        ]


def entry(flight: Flight) -> PastJob:
    header = flight.header
    caller = f"{header.caller.service}[{header.caller.pid}]" if header.caller else ""
    return PastJob(
        id=header.id,
        parent=header.parent,
        name=header.name,
        service=flight.service,
        caller=caller,
        started=flight.started,
        ended=flight.ended,
        status=flight.status,
        message=flight.message,
    )
