"""Dispatcher: what becomes of a job: run here, forwarded to the holder of its name, or held until one comes.

A job ends once: by its result, its deadline, its cancellation, or the death of the process that had it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec

from services.engine.drivers import Driver, Drivers
from services.engine.flights import Flight, Flights
from services.engine.tasks import Tasks, outlives_caller
from shared.bus.client import RETRY_PAUSE, RETRY_TIME, Patience
from shared.bus.context import current, waiting_for
from shared.bus.handlers import Handlers
from shared.protocol import (
    Caller,
    Cancelled,
    ContainerExited,
    DockyardError,
    ExecExited,
    Frame,
    Header,
    Job,
    JobNotFound,
    Kind,
    Output,
    Unavailable,
    catalogue,
    decode_body,
    decode_job,
    encode_body,
    job_name,
    new_id,
    result_type,
)

__all__ = ["HOLDER_TIMEOUT", "Dispatcher"]

R = TypeVar("R")
log = logging.getLogger("dockyard.engine")

MAX_LOSSES = 3  # drivers that a job may be lost with before it is given up
HOLDER_TIMEOUT = 10.0  # seconds a job waits for a process to come (back) that holds its name
GRACE = 2.5  # seconds after its start for which an engine takes an unknown name for one whose driver will be back
ENDS = frozenset({job_name(ContainerExited), job_name(ExecExited)})  # somebody may wait for one
WAITING = frozenset({"wait", "events", "await_service"})


class Dispatcher:
    """``send(driver, frame)`` takes a frame to a driver, and says whether it could.

    ``outcome``: job id → the encoded result that is on record, of a job which was done before its answer was lost.
    """

    def __init__(
        self,
        service: Any,
        handlers: Handlers[Any],
        tasks: Tasks,
        send: Callable[[Driver, Frame], bool],
        on_finish: Callable[[Flight], None],
        outcome: Callable[[str], bytes | None],
    ) -> None:
        self._service, self._handlers, self._tasks, self._send = service, handlers, tasks, send
        self._outcome = outcome
        self._names = set(catalogue())
        self._began = time.monotonic()
        self.closing = self.closed = False
        self.drivers = Drivers(self._driver_lost)
        self.flights = Flights(on_finish)

    def busy(self) -> bool:
        """Say whether a job is under way that will end by itself (those that only wait do not count)."""
        return any(flight.header.name not in WAITING for flight in self.flights)

    async def call(self, job: Job[R], *, timeout: float | None = 60.0, driver: Driver | None = None) -> R:
        """Send a job as a child of the present one, within its deadline; ``driver``: to that process and no other.

        One that is repeatable is asked again if it is lost with its driver, but not for ever: it may be what kills it.
        """
        header, body = _child_header(job_name(job), timeout), encode_body(job)
        result: R = decode_body(await self._ask(header, body, driver, type(job).REPEATABLE), result_type(type(job)))
        return result

    async def _ask(self, header: Header, body: bytes, driver: Driver | None, repeatable: bool) -> bytes:
        patience = Patience(RETRY_TIME)
        losses = 0
        while True:
            patience.begin()
            flight, future = self._begin_child(header, body, driver)
            try:
                return await future
            except asyncio.CancelledError:
                self.cancel(flight)
                raise
            except Unavailable:
                losses += flight.lost
                if not flight.lost or not repeatable or driver is not None or losses > MAX_LOSSES or patience.is_over():
                    self._tell_cancel(flight)
                    raise
            await asyncio.sleep(RETRY_PAUSE)
            header = msgspec.structs.replace(header, again=True)

    def _begin_child(self, header: Header, body: bytes, driver: Driver | None) -> tuple[Flight, asyncio.Future[bytes]]:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        context = current.get()

        def answer(frame: Frame) -> None:
            if frame.kind is Kind.RESULT and not future.done():
                if frame.header.status:
                    future.set_exception(frame.error())
                else:
                    future.set_result(frame.body)
            elif frame.kind is Kind.STATUS and context is not None:
                context.send_status(decode_body(frame.body, Output))

        return self._begin(header, body, answer, driver), future

    def admit(self, header: Header, body: bytes, answer: Callable[[Frame], object]) -> None:
        """Begin a job from outside; once the gate is shut, only what jobs under way call, or wait to be told."""
        if self.closing and header.name not in ENDS and self.flights.get(header.parent) is None:
            self.fail(self.flights.add(header, body, answer), Unavailable("engine is shutdown"))
        else:
            self._begin(header, body, answer)

    def _begin(
        self, header: Header, body: bytes, answer: Callable[[Frame], object], driver: Driver | None = None
    ) -> Flight:
        flight = self.flights.add(header, body, answer)
        name = header.name
        if self.closed:
            self.fail(flight, Unavailable("engine is shutdown"))
        elif header.deadline is not None and header.deadline <= time.monotonic():
            self.fail(flight, Unavailable(f"{name}: not begun before the deadline"))
        elif name in self._handlers:
            self._spawn(flight, self._run(flight))
        elif driver := driver or self.drivers.choose(name):
            self._forward(flight, driver)
        elif name in self._names or time.monotonic() < self._began + GRACE:
            self._spawn(flight, self._wait_for_holder(flight))
        else:
            self.fail(flight, JobNotFound(f"{name}: command not found"))
        return flight

    def _spawn(self, flight: Flight, work: Coroutine[Any, Any, None]) -> None:
        def end(task: asyncio.Task[None]) -> None:
            if task.cancelled():  # before it had begun, maybe: then nothing in it could tell
                self.fail(flight, Cancelled(f"{flight.header.name}: cancelled"))

        flight.task = self._tasks.spawn(work)
        flight.task.add_done_callback(end)

    async def _run(self, flight: Flight) -> None:
        header = flight.header
        flight.service = "engine"
        current.set(flight.context)
        if header.again and (known := self._outcome(header.id)) is not None:
            self.finish(flight, Frame(Kind.RESULT, Header(id=header.id, name=header.name), known))
            return
        try:
            async with asyncio.timeout_at(header.deadline):
                result = self._handlers[header.name](self._service, decode_job(header.name, flight.body))
                if asyncio.iscoroutine(result):
                    result = await result
            answer = Frame.result(header, result)
        except DockyardError as error:
            answer = Frame.failure(header, error)
        except TimeoutError:
            answer = Frame.failure(header, Unavailable(f"{header.name}: not done before the deadline"))
        except asyncio.CancelledError:
            self.fail(flight, Cancelled(f"{header.name}: cancelled"))
            raise
        except Exception:
            log.exception("handler failed job=%s name=%s", header.id, header.name)
            message = f"{header.name}: internal error, see the log for job {header.id}"
            answer = Frame.failure(header, DockyardError(message))
        self.finish(flight, answer)

    async def _wait_for_holder(self, flight: Flight) -> None:
        """Hold a job whose name nobody holds at present: a driver that was killed is back within a second."""
        name = flight.header.name
        limit = time.monotonic() + HOLDER_TIMEOUT if name in self._names else self._began + GRACE
        deadline = limit if flight.header.deadline is None else min(limit, flight.header.deadline)
        current.set(flight.context)
        try:
            with waiting_for(f"a process that offers {name}"):
                async with asyncio.timeout_at(deadline):
                    driver = await self.drivers.wait_for(name)
        except TimeoutError:
            if name in self._names:
                self.fail(flight, Unavailable(f"{name}: no running process offers this job"))
            else:
                self.fail(flight, JobNotFound(f"{name}: command not found"))
            return
        except asyncio.CancelledError:
            self.fail(flight, Cancelled(f"{name}: cancelled"))
            raise
        flight.task = None
        self._forward(flight, driver)

    def _forward(self, flight: Flight, driver: Driver) -> None:
        flight.driver, flight.service = driver, driver.service
        driver.jobs.add(flight.header.id)
        if flight.header.deadline is not None:
            flight.timer = asyncio.get_running_loop().call_at(flight.header.deadline, self._expire, flight)
        if not self._send(driver, Frame(Kind.JOB, flight.header, flight.body)):
            self.drivers.lose(driver, "is unreachable")

    # -- ends

    def finish(self, flight: Flight, result: Frame) -> None:
        if self.flights.finish(flight, result):
            flight.answer(result)

    def fail(self, flight: Flight, error: DockyardError) -> None:
        self.finish(flight, Frame.failure(flight.header, error))

    def cancel(self, flight: Flight) -> None:
        if flight.task is not None:
            flight.task.cancel()
            return
        self._tell_cancel(flight)
        self.fail(flight, Cancelled(f"{flight.header.name}: cancelled"))

    def _expire(self, flight: Flight) -> None:
        self._tell_cancel(flight)
        self.fail(flight, Unavailable(f"{flight.header.name}: {flight.service} did not answer before the deadline"))

    def _tell_cancel(self, flight: Flight) -> None:
        if flight.driver is not None:
            self._send(flight.driver, Frame(Kind.CANCEL, Header(id=flight.header.id)))

    def _driver_lost(self, driver: Driver, why: str) -> None:
        if driver.leaving and not driver.jobs:
            log.info("service left name=%s pid=%d why=asked", driver.service, driver.pid)
            return
        log.warning("service lost name=%s pid=%d why=%s jobs=%d", driver.service, driver.pid, why, len(driver.jobs))
        for job_id in list(driver.jobs):
            flight = self.flights.get(job_id)
            if flight is not None:
                flight.lost = True
                self.fail(flight, Unavailable(f"{flight.header.name}: {driver.service} {why}"))


def _child_header(name: str, timeout: float | None) -> Header:
    """Return the header of a job that the present one calls: it has no more time, unless it outlives that one."""
    context = current.get()
    parent = context.header if context else Header()
    limits = [] if timeout is None else [time.monotonic() + timeout]
    if parent.deadline is not None and not outlives_caller.get():
        limits.append(parent.deadline)
    caller = Caller(service="engine", pid=os.getpid())
    return Header(id=new_id(), name=name, parent=parent.id, deadline=min(limits, default=None), caller=caller)
