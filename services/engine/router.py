"""Router: the broker. It knows who holds which job name, forwards jobs, runs the engine's own, and loses none silently.

| peer sends | router does                                                                                   |
|------------|-----------------------------------------------------------------------------------------------|
| REGISTER   | note the driver's names; a name that another holds is refused, unless both are of one pool     |
| READY      | route jobs to it; tell the engine (`Router.on_ready`)                                          |
| JOB        | run the engine's own handler, or forward to the name's holder, or wait for one to come         |
| STATUS     | pass on to the caller                                                                          |
| RESULT     | pass on to the caller; forget the job                                                          |
| CANCEL     | pass on to the driver, or cancel the handler                                                   |
| HEARTBEAT  | with a job's id: answer whether it is known. From a driver: note it; unknown: ask to REGISTER  |
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import zmq

from services.engine.drivers import Driver, Drivers
from services.engine.flights import Flight, Flights
from services.engine.peers import Peers
from shared.bus.context import Context, current
from shared.bus.handlers import Handlers
from shared.protocol import (
    Caller,
    Cancelled,
    Conflict,
    DockyardError,
    Frame,
    Header,
    InvalidArgument,
    Job,
    JobNotFound,
    Kind,
    Output,
    Registration,
    Unavailable,
    catalogue,
    decode_body,
    decode_job,
    encode_body,
    job_name,
    new_id,
    result_type,
)

__all__ = ["Router"]

R = TypeVar("R")
log = logging.getLogger("dockyard.engine")

HOLDER_TIMEOUT = 10.0  # seconds a job waits for a process to come (back) that holds its name
WAITING = frozenset({"wait", "events", "await_service"})
SILENCE_LIMIT = 5.0  # seconds without a heartbeat after which a driver's jobs fail


class Router:
    def __init__(self, service: Any, handlers: Handlers[Any], on_flight: Callable[[Flight], None]) -> None:
        self.service = service
        self.handlers = handlers
        self.on_ready: Callable[[Driver], None] = lambda driver: None
        self.closing = False
        self.drivers = Drivers(self._driver_lost)
        self.flights = Flights(on_flight)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._names = set(catalogue())
        self._peers = Peers(self._receive)

    def bind(self, context: zmq.Context[Any], endpoint: str) -> None:
        self._peers.bind(context, endpoint)
        self.spawn(self._watch_silence())

    def busy(self) -> bool:
        """Say whether a job is under way that will end by itself (those that only wait do not count)."""
        return any(flight.header.name not in WAITING for flight in self.flights)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.drivers.close()
        self._peers.close()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``work`` in the background and keep hold of it; its failure is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    async def uninterrupted(self, work: Coroutine[Any, Any, R]) -> R:
        """Do ``work`` to its end even if the caller is cancelled meanwhile."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background task failed", exc_info=error)

    # -- the engine's own calls

    async def call(self, job: Job[R], *, timeout: float | None = 60.0, driver: Driver | None = None) -> R:
        """Send a job as a child of the present one; ``driver``: to that process and no other."""
        context = current.get()
        parent = context.header if context else Header()
        header = Header(
            id=new_id(),
            name=job_name(job),
            parent=parent.id,
            deadline=None if timeout is None else time.monotonic() + timeout,
            caller=Caller(service="engine", pid=0),
        )
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def answer(frame: Frame) -> None:
            if frame.kind is Kind.RESULT and not future.done():
                if frame.header.status:
                    future.set_exception(frame.error())
                else:
                    future.set_result(frame.body)
            elif frame.kind is Kind.STATUS and context is not None:
                context.send_status(decode_body(frame.body, Output))

        flight = self.flights.add(header, answer)
        self._dispatch(flight, encode_body(job), driver)
        try:
            body = await future
        except asyncio.CancelledError:
            self._cancel(flight)
            raise
        result: R = decode_body(body, result_type(type(job)))
        return result

    # -- frames from peers

    def _receive(self, peer: bytes, parts: list[bytes]) -> None:
        try:
            frame = Frame.parse(parts)
        except DockyardError as error:
            log.warning("frame refused error=%s", error)
            self._peers.send(peer, Frame.failure(Header(), error))
            return
        try:
            getattr(self, f"_on_{frame.kind.lower()}", self._on_other)(peer, frame)
        except DockyardError as error:
            log.warning("frame refused kind=%s error=%s", frame.kind, error)
            self._peers.send(peer, Frame.failure(frame.header, error))

    def _on_other(self, peer: bytes, frame: Frame) -> None:
        raise InvalidArgument(f"the engine takes no {frame.kind} frames")

    def _on_register(self, peer: bytes, frame: Frame) -> None:
        registration = decode_body(frame.body, Registration)
        for name in registration.names:
            if name in self.handlers:
                raise Conflict(f"Can't overwrite handler for command {name}")
        self.drivers.register(peer, frame.header.name, registration)

    def _on_ready(self, peer: bytes, frame: Frame) -> None:
        driver = self.drivers.by_peer(peer)
        if driver is not None and not driver.ready.is_set():
            log.info("service ready name=%s pid=%d", driver.service, driver.pid)
            driver.ready.set()
            self.drivers.changed()
            self.on_ready(driver)

    def _on_heartbeat(self, peer: bytes, frame: Frame) -> None:
        if frame.header.id:
            known = frame.header.id in self.flights
            header = Header(id=frame.header.id, status=0 if known else JobNotFound.status)
            self._peers.send(peer, Frame(Kind.HEARTBEAT, header))
            return
        if self.drivers.heard(peer):
            self._peers.send(peer, Frame(Kind.HEARTBEAT, Header(name="engine")))
        else:
            self._peers.send(peer, Frame(Kind.REGISTER, Header(name="engine")))

    def _on_job(self, peer: bytes, frame: Frame) -> None:
        header = frame.header
        if not header.id or not header.name:
            raise InvalidArgument("a JOB needs an id and a name")
        if header.id in self.flights:
            raise InvalidArgument(f"job {header.id} is under way already")
        flight = self.flights.add(header, partial(self._peers.send, peer))
        self._dispatch(flight, frame.body)

    def _on_status(self, peer: bytes, frame: Frame) -> None:
        flight = self.flights.get(frame.header.id)
        if flight is not None and flight.driver is self.drivers.by_peer(peer):
            flight.answer(frame)

    def _on_result(self, peer: bytes, frame: Frame) -> None:
        flight = self.flights.get(frame.header.id)
        if flight is not None and flight.driver is self.drivers.by_peer(peer):
            self._finish(flight, frame)

    def _on_cancel(self, peer: bytes, frame: Frame) -> None:
        flight = self.flights.get(frame.header.id)
        if flight is not None:
            self._cancel(flight)

    # -- jobs

    def _dispatch(self, flight: Flight, body: bytes, driver: Driver | None = None) -> None:
        name = flight.header.name
        if self.closing:
            self._finish(flight, Frame.failure(flight.header, Unavailable("engine is shutdown")))
        elif name in self.handlers:
            flight.task = self.spawn(self._run(flight, body))
        elif driver := driver or self.drivers.choose(name):
            self._forward(flight, body, driver)
        elif name in self._names:
            flight.task = self.spawn(self._wait_for_holder(flight, body))
        else:
            self._finish(flight, Frame.failure(flight.header, JobNotFound(f"{name}: command not found")))

    async def _run(self, flight: Flight, body: bytes) -> None:
        header = flight.header
        flight.service = "engine"

        def send_status(output: Output) -> None:
            flight.answer(Frame(Kind.STATUS, Header(id=header.id, name=header.name), encode_body(output)))

        current.set(Context(header, send_status))
        try:
            async with asyncio.timeout_at(header.deadline):
                result = self.handlers[header.name](self.service, decode_job(header.name, body))
                if asyncio.iscoroutine(result):
                    result = await result
            answer = Frame.result(header, result)
        except DockyardError as error:
            answer = Frame.failure(header, error)
        except TimeoutError:
            answer = Frame.failure(header, Unavailable(f"{header.name}: not done before the deadline"))
        except asyncio.CancelledError:
            self._finish(flight, Frame.failure(header, Cancelled(f"{header.name}: cancelled")))
            raise
        except Exception:
            log.exception("handler failed job=%s name=%s", header.id, header.name)
            message = f"{header.name}: internal error, see the log for job {header.id}"
            answer = Frame.failure(header, DockyardError(message))
        self._finish(flight, answer)

    async def _wait_for_holder(self, flight: Flight, body: bytes) -> None:
        """Hold a job whose name nobody holds at present: a driver that was killed is back within a second."""
        name = flight.header.name
        limit = time.monotonic() + HOLDER_TIMEOUT
        deadline = limit if flight.header.deadline is None else min(limit, flight.header.deadline)
        try:
            async with asyncio.timeout_at(deadline):
                driver = await self.drivers.wait_for(name)
        except TimeoutError:
            error = Unavailable(f"{name}: no running process offers this job")
            self._finish(flight, Frame.failure(flight.header, error))
            return
        except asyncio.CancelledError:
            self._finish(flight, Frame.failure(flight.header, Cancelled(f"{name}: cancelled")))
            raise
        flight.task = None
        self._forward(flight, body, driver)

    def _forward(self, flight: Flight, body: bytes, driver: Driver) -> None:
        flight.driver, flight.service = driver, driver.service
        driver.jobs.add(flight.header.id)
        if flight.header.deadline is not None:
            flight.timer = asyncio.get_running_loop().call_at(flight.header.deadline, self._expire, flight)
        if not self._peers.send(driver.peer, Frame(Kind.JOB, flight.header, body)):
            self.drivers.lose(driver, "is unreachable")

    def _expire(self, flight: Flight) -> None:
        self._tell_cancel(flight)
        error = Unavailable(f"{flight.header.name}: {flight.service} did not answer before the deadline")
        self._finish(flight, Frame.failure(flight.header, error))

    def _cancel(self, flight: Flight) -> None:
        if flight.task is not None:
            flight.task.cancel()
            return
        self._tell_cancel(flight)
        self._finish(flight, Frame.failure(flight.header, Cancelled(f"{flight.header.name}: cancelled")))

    def _tell_cancel(self, flight: Flight) -> None:
        if flight.driver is not None:
            self._peers.send(flight.driver.peer, Frame(Kind.CANCEL, Header(id=flight.header.id)))

    def _finish(self, flight: Flight, frame: Frame) -> None:
        if self.flights.finish(flight, frame):
            flight.answer(frame)

    # -- drivers that go away

    def _driver_lost(self, driver: Driver, why: str) -> None:
        log.warning("service lost name=%s pid=%d why=%s jobs=%d", driver.service, driver.pid, why, len(driver.jobs))
        for job_id in list(driver.jobs):
            flight = self.flights.get(job_id)
            if flight is not None:
                error = Unavailable(f"{flight.header.name}: {driver.service} {why}")
                self._finish(flight, Frame.failure(flight.header, error))

    async def _watch_silence(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.drivers.check_silence(SILENCE_LIMIT)
