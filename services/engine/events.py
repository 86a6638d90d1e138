"""Events: journalled in the database with a gap-free number, then published; readers follow by that number."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import msgspec
import zmq

from services.engine.store import Store
from shared.bus import sockets
from shared.protocol import Event, EventActor, Frame, Header, Kind, ReadEvents

__all__ = ["Events"]

KEPT = 100_000  # events that the journal keeps
TRIM_EVERY = 1_000
EXECS = b'{"Type":"container","Action":"exec_'  # how their records begin


class Events:
    """``retention``: seconds after which an event may be forgotten; the newest `KEPT` are kept in any case.

    Those of execs, which health checks have without end, are forgotten beyond these however new they are.
    """

    def __init__(self, store: Store, retention: float) -> None:
        self._store = store
        self._retention = retention
        (newest,) = store.db.execute("SELECT max(seq) FROM events").fetchone()
        self.newest: int = newest or 0
        self.readers = 0  # that wait for an event at present
        self._appended = asyncio.Event()
        self._socket: zmq.Socket[bytes] | None = None

    def bind(self, context: zmq.Context[Any], endpoint: str) -> None:
        """Open the PUB socket. A subscriber that is too slow loses messages there and finds them in the journal."""
        socket: zmq.Socket[bytes] = context.socket(zmq.PUB)
        sockets.bind(socket, endpoint)
        self._socket = socket

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close(0)
            self._socket = None

    def append(self, kind: str, action: str, actor: str, attributes: dict[str, str]) -> None:
        """Journal an event as part of the store's open transaction, if there is one, and announce it."""
        now = time.time_ns()
        event = Event(
            type=kind,
            action=action,
            actor=EventActor(id=actor, attributes=attributes),
            time=now // 1_000_000_000,
            time_nano=now,
            seq=self.newest + 1,
        )
        blob = msgspec.json.encode(event)
        with self._store.transaction():
            self._store.db.execute("INSERT INTO events VALUES (?,?,?)", (event.seq, now, blob))
            if event.seq % TRIM_EVERY == 0:
                self._forget(now)
        self.newest = event.seq
        asyncio.get_running_loop().call_soon(self._announce, blob)

    def _forget(self, now: int) -> None:
        oldest_wanted, beyond = now - int(self._retention * 1e9), self.newest - KEPT
        self._store.db.execute("DELETE FROM events WHERE seq <= ? AND time_ns < ?", (beyond, oldest_wanted))
        execs = "DELETE FROM events WHERE seq <= ? AND seq > ? AND instr(record, ?) = 1"
        self._store.db.execute(execs, (beyond, beyond - 2 * TRIM_EVERY, EXECS))

    def _announce(self, blob: bytes) -> None:
        self._appended.set()
        self._appended = asyncio.Event()
        if self._socket is not None:
            self._socket.send_multipart(Frame(Kind.EVENT, Header(name="event"), blob).parts(), zmq.NOBLOCK)

    async def read(self, request: ReadEvents) -> list[Any]:
        """Return events as `ReadEvents` says, encoded as they are in the journal."""
        if request.after < 0:
            return self._select(self.newest - 1, ReadEvents())
        deadline = time.monotonic() + request.wait
        while True:
            found = self._select(request.after, request)
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            self.readers += request.readers
            try:
                async with asyncio.timeout(left):
                    await self._appended.wait()
            except TimeoutError:
                return []
            finally:
                self.readers -= request.readers

    def _select(self, after: int, request: ReadEvents) -> list[Any]:
        until = request.until or 2**63 - 1
        rows = self._store.db.execute(
            "SELECT record FROM events WHERE seq > ? AND time_ns >= ? AND time_ns <= ? ORDER BY seq LIMIT ?",
            (after, request.since, until, request.limit),
        )
        return [msgspec.Raw(blob) for (blob,) in rows]

    def last(self, ref: str, action: str, *, within: float) -> Event | None:
        """Return the newest event of that action, in the last ``within`` seconds, on what has that id or name."""
        earliest = 0 if within == math.inf else time.time_ns() - int(within * 1e9)
        query = "SELECT record FROM events WHERE time_ns >= ? AND instr(record, ?) ORDER BY seq DESC"
        for (blob,) in self._store.db.execute(query, (earliest, ref.encode())):
            event = msgspec.json.decode(blob, type=Event)
            named = event.actor.id.startswith(ref) or event.actor.attributes.get("name") == ref
            if named and event.action == action:
                return event
        return None
