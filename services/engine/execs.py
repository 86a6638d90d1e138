"""Execs: their records. One is created, started once, ends, and is forgotten after a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from shared.protocol import ExecConfig, NotFound

if TYPE_CHECKING:
    from services.engine.store import Store

__all__ = ["Exec", "ExecRecord", "Execs"]

KEPT_TIME = 300.0  # seconds that an exec which has ended can be asked about
UNSTARTED_TIME = 3600.0  # seconds that one which nobody starts is kept
KEPT = 1000  # execs that do not run, at most
SWEEP_INTERVAL = 30.0  # seconds
LOST_EXIT_CODE = 255  # of an exec whose end nobody saw


class ExecRecord(msgspec.Struct, kw_only=True):
    """Times in nanoseconds since the epoch, 0 for not yet."""

    id: str
    container: str
    created: int
    args: list[str]
    config: ExecConfig
    attempt: str = ""  # the id of the job that started it
    pid: int = 0
    exit_code: int | None = None
    ended: int = 0

    @property
    def running(self) -> bool:
        return self.pid > 0 and self.exit_code is None

    @property
    def command(self) -> str:
        return " ".join(self.args)


class Exec:
    """``lock`` is held through a start, and while an end is recorded."""

    def __init__(self, record: ExecRecord) -> None:
        self.record = record
        self.lock = asyncio.Lock()
        self.ended = asyncio.Event()
        if record.exit_code is not None:
            self.ended.set()


class Execs:
    """All execs, the oldest first."""

    def __init__(self, store: Store) -> None:
        self._store = store
        records = sorted(store.execs(), key=lambda record: record.created)
        self._by_id = {record.id: Exec(record) for record in records}

    def __iter__(self) -> Iterator[Exec]:
        return iter(list(self._by_id.values()))

    def by_id(self, exec_id: str) -> Exec | None:
        return self._by_id.get(exec_id)

    def find(self, exec_id: str) -> Exec:
        """Look up by the full id. Errors: NotFound."""
        found = self._by_id.get(exec_id)
        if found is None:
            raise NotFound(f"No such exec instance: {exec_id}")
        return found

    def of(self, container_id: str) -> list[str]:
        """Return the ids of a container's execs that have not ended."""
        records = [exec_.record for exec_ in self._by_id.values()]
        return [record.id for record in records if record.container == container_id and record.exit_code is None]

    def add(self, exec_: Exec) -> None:
        self._by_id[exec_.record.id] = exec_
        self._trim()

    def drop(self, container_id: str) -> None:
        """Forget the execs of a container that is gone; who waits for one hears that it is lost, at least."""
        for exec_ in self:
            if exec_.record.container == container_id:
                self._forget(exec_)

    def _forget(self, exec_: Exec) -> None:
        if exec_.record.exit_code is None:
            exec_.record.exit_code = LOST_EXIT_CODE
        exec_.ended.set()
        self._store.delete_exec(exec_.record.id)
        self._by_id.pop(exec_.record.id, None)

    async def keep(self) -> None:
        """Forget, for ever, what is too old."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            self.sweep(time.time_ns())

    def sweep(self, now: int) -> None:
        for exec_ in self:
            record = exec_.record
            if record.ended:
                old = now - record.ended > KEPT_TIME * 1e9
            else:
                old = not record.running and not exec_.lock.locked() and now - record.created > UNSTARTED_TIME * 1e9
            if old:
                self._forget(exec_)
        self._trim()

    def _trim(self) -> None:
        idle = [e for e in self._by_id.values() if not e.record.running and not e.lock.locked()]
        for exec_ in idle[: max(0, len(idle) - KEPT)]:
            self._forget(exec_)
