"""Flights: the jobs under way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from services.engine.drivers import Driver
from shared.protocol import Failure, Frame, Header, decode_body

__all__ = ["Flight", "Flights"]

log = logging.getLogger("dockyard.jobs")


@dataclass(eq=False)
class Flight:
    """One job under way. ``answer`` takes its frames to whoever called; it runs in ``task`` or at ``driver``."""

    header: Header
    answer: Callable[[Frame], object]
    service: str = ""
    driver: Driver | None = None
    task: asyncio.Task[Any] | None = None
    timer: asyncio.TimerHandle | None = None
    started: float = field(default_factory=time.time)
    started_monotonic: float = field(default_factory=time.monotonic)
    ended: float | None = None
    status: int | None = None
    message: str = ""


class Flights:
    def __init__(self, on_change: Callable[[Flight], None]) -> None:
        self._flights: dict[str, Flight] = {}
        self._on_change = on_change

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._flights

    def __iter__(self) -> Iterator[Flight]:
        return iter(list(self._flights.values()))

    def __len__(self) -> int:
        return len(self._flights)

    def get(self, job_id: str) -> Flight | None:
        return self._flights.get(job_id)

    def add(self, header: Header, answer: Callable[[Frame], object]) -> Flight:
        flight = self._flights[header.id] = Flight(header, answer)
        log.debug("+job %s job=%s parent=%s", header.name, header.id, header.parent or "-")
        return flight

    def finish(self, flight: Flight, result: Frame) -> bool:
        """Take a flight off the list; False if it has ended before."""
        if self._flights.pop(flight.header.id, None) is None:
            return False
        if flight.timer is not None:
            flight.timer.cancel()
        if flight.driver is not None:
            flight.driver.jobs.discard(flight.header.id)
        flight.ended, flight.status = time.time(), result.header.status
        if flight.status:
            flight.message = decode_body(result.body, Failure).message
        took_ms = (time.monotonic() - flight.started_monotonic) * 1000
        outcome = "OK" if flight.status == 0 else "ERR"
        level = logging.INFO if not flight.header.parent and flight.header.name not in QUIET else logging.DEBUG
        log.log(
            level, "-job %s = %s (%d) took_ms=%.1f job=%s", flight.header.name, outcome, flight.status, took_ms,
            flight.header.id,
        )  # fmt: skip
        self._on_change(flight)
        return True


QUIET = frozenset({"ping", "events", "await_service", "services", "info", "version", "containers"})
