"""Flights: the jobs under way."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from services.engine.drivers import Driver
from shared.bus.context import Context
from shared.protocol import Failure, Frame, Header, Kind, Output, call_arguments, decode_body, encode_body

__all__ = ["Flight", "Flights"]

log = logging.getLogger("dockyard.jobs")

NEVER = threading.Event()  # the engine's handlers are tasks, and cancelled as such
REMEMBERED = 256  # results that are kept for callers whose connection broke
QUIET = frozenset({"ping", "events", "await_service", "services", "info", "version", "containers", "metrics"})


@dataclass(eq=False)
class Flight:
    """One job under way. ``answer`` takes its frames to whoever called; it runs in ``task`` or at ``driver``."""

    header: Header
    body: bytes
    answer: Callable[[Frame], object]
    service: str = ""
    driver: Driver | None = None
    task: asyncio.Task[Any] | None = None
    timer: asyncio.TimerHandle | None = None
    context: Context = field(init=False)
    started: float = field(default_factory=time.time)
    started_monotonic: float = field(default_factory=time.monotonic)
    ended: float | None = None
    status: int | None = None
    message: str = ""
    code: str = ""  # of the error; empty: none
    lost: bool = False  # with the driver that had it

    def __post_init__(self) -> None:
        self.context = Context(self.header, self._send_status, NEVER)

    def _send_status(self, output: Output) -> None:
        header = Header(id=self.header.id, name=self.header.name)
        self.answer(Frame(Kind.STATUS, header, encode_body(output)))

    @cached_property
    def args(self) -> str:
        return call_arguments(self.header.name, self.body)

    @cached_property
    def log_level(self) -> int:
        """Jobs that others call, and those that only look, are of interest to who debugs."""
        return logging.DEBUG if self.header.parent or self.header.name in QUIET else logging.INFO


class Flights:
    def __init__(self, on_finish: Callable[[Flight], None]) -> None:
        self._flights: dict[str, Flight] = {}
        self._results: OrderedDict[str, Frame] = OrderedDict()
        self._on_finish = on_finish

    def __iter__(self) -> Iterator[Flight]:
        return iter(list(self._flights.values()))

    def __len__(self) -> int:
        return len(self._flights)

    def get(self, job_id: str) -> Flight | None:
        return self._flights.get(job_id)

    def result(self, job_id: str) -> Frame | None:
        """Return how a job ended that ended lately."""
        return self._results.get(job_id)

    def add(self, header: Header, body: bytes, answer: Callable[[Frame], object]) -> Flight:
        flight = self._flights[header.id] = Flight(header, body, answer)
        if log.isEnabledFor(flight.log_level):
            origin = f"job={header.id} parent={header.parent or '-'}"
            log.log(flight.log_level, "+job %s(%s) %s", header.name, flight.args, origin)
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
            failure = decode_body(result.body, Failure)
            flight.message, flight.code = failure.message, failure.code
        self._log_end(flight)
        self._results[flight.header.id] = result
        if len(self._results) > REMEMBERED:
            self._results.popitem(last=False)
        self._on_finish(flight)
        return True

    def _log_end(self, flight: Flight) -> None:
        if log.isEnabledFor(flight.log_level):
            took = (time.monotonic() - flight.started_monotonic) * 1000
            outcome = {0: "OK", 127: "NOT FOUND"}.get(flight.status or 0, "ERR")
            name, job_id = flight.header.name, flight.header.id
            why = f" error={flight.message!r}" if flight.status else " asked again" if flight.header.again else ""
            log.log(
                flight.log_level, "-job %s(%s) = %s (%d) %.0fms job=%s%s", name, flight.args, outcome, flight.status,
                took, job_id, why,
            )  # fmt: skip
