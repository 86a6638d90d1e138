"""Router: the broker. It knows who holds which job name, forwards jobs, runs the engine's own, and loses none silently.

| peer sends | router does                                                                                   |
|------------|-----------------------------------------------------------------------------------------------|
| REGISTER   | note the driver's names; a name that another holds is refused, unless both are of one pool     |
| READY      | route jobs to it; tell the engine (`Router.on_ready`)                                          |
| JOB        | begin it (`Dispatcher`); asked again: join the one under way, or repeat how it ended           |
| STATUS     | pass on to the caller                                                                          |
| RESULT     | pass on to the caller; forget the job                                                          |
| CANCEL     | pass on to the driver, or cancel the handler                                                   |
| HEARTBEAT  | with a job's id: answer whether it is known. From a driver: note it; unknown: ask to REGISTER  |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import zmq

from services.engine.dispatch import Dispatcher
from services.engine.drivers import Driver
from services.engine.flights import Flight
from services.engine.peers import Peers
from services.engine.tasks import Tasks
from shared.bus.handlers import Handlers
from shared.protocol import (
    Caller,
    Conflict,
    DockyardError,
    Frame,
    Header,
    InvalidArgument,
    JobNotFound,
    Kind,
    Registration,
    decode_body,
    is_id,
)

__all__ = ["SILENCE_LIMIT", "Router"]

log = logging.getLogger("dockyard.engine")

SILENCE_LIMIT = 5.0  # seconds without a heartbeat after which a driver's jobs fail


class Router:
    def __init__(
        self,
        service: Any,
        handlers: Handlers[Any],
        on_finish: Callable[[Flight], None],
        outcome: Callable[[str], bytes | None] = lambda job_id: None,
    ) -> None:
        self.handlers = handlers
        self.on_ready: Callable[[Driver], None] = lambda driver: None
        self._tasks = Tasks()
        self._peers = Peers(self._receive)
        self._dispatcher = Dispatcher(service, handlers, self._tasks, self._send, on_finish, outcome)
        self._dispatcher.drivers.on_back = self._on_back
        self.drivers, self.flights = self._dispatcher.drivers, self._dispatcher.flights
        self.call, self.busy = self._dispatcher.call, self._dispatcher.busy
        self.spawn, self.uninterrupted = self._tasks.spawn, self._tasks.uninterrupted

    def _on_back(self, driver: Driver) -> None:
        """A driver that was silent may have missed as much as a new one."""
        self.on_ready(driver)

    def bind(self, context: zmq.Context[Any], endpoint: str) -> None:
        self._peers.bind(context, endpoint)
        self.spawn(self._watch_silence())

    def shut(self) -> None:
        """Take no new job from now on; those under way go on, with all that they call."""
        self._dispatcher.closing = True

    def close(self) -> None:
        self._dispatcher.closed = True
        self._tasks.cancel()
        self.drivers.close()
        self._peers.close()

    def _send(self, driver: Driver, frame: Frame) -> bool:
        return self._peers.send(driver.peer, frame)

    def tell_cancel(self, service: str, job_id: str) -> None:
        """Tell a driver that nobody waits for a job of an engine before this one."""
        for driver in self.drivers.of(service):
            self._send(driver, Frame(Kind.CANCEL, Header(id=job_id)))

    def _receive(self, peer: bytes, parts: list[bytes]) -> None:
        try:
            frame = Frame.parse(parts)
        except DockyardError as error:
            log.warning("frame refused error=%s", error)
            self._peers.send(peer, Frame.failure(Header(), error))
            return
        self.drivers.heard(peer)
        try:
            getattr(self, f"_on_{frame.kind.lower()}", self._on_other)(peer, frame)
        except DockyardError as error:
            log.warning("frame refused kind=%s error=%s", frame.kind, error)
            self._peers.send(peer, Frame.failure(frame.header, error))
        except Exception:  # a bug; one frame must not keep those behind it from being read
            log.exception("frame failed kind=%s", frame.kind)
            self._peers.send(peer, Frame.failure(frame.header, DockyardError("internal error, see the log")))

    def _on_other(self, peer: bytes, frame: Frame) -> None:
        raise InvalidArgument(f"the engine takes no {frame.kind} frames")

    def _on_register(self, peer: bytes, frame: Frame) -> None:
        registration = decode_body(frame.body, Registration)
        for name in registration.names:
            if name in self.handlers:
                raise Conflict(f"Can't overwrite handler for command {name}")
            if not name:
                raise InvalidArgument("empty job names are illegal")
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
            known = self.flights.get(frame.header.id) is not None
            header = Header(id=frame.header.id, status=0 if known else JobNotFound.status)
            self._peers.send(peer, Frame(Kind.HEARTBEAT, header))
            return
        if self.drivers.by_peer(peer) is not None:
            self._peers.send(peer, Frame(Kind.HEARTBEAT, Header(name="engine")))
        else:
            self._peers.send(peer, Frame(Kind.REGISTER, Header(name="engine")))

    def _on_job(self, peer: bytes, frame: Frame) -> None:
        header = frame.header
        if not header.name or not is_id(header.id) or not (header.parent == "" or is_id(header.parent)):
            raise InvalidArgument("a JOB needs a name and an id of 32 hexadecimal digits, as its parent's is")
        flight, result = self.flights.get(header.id), self.flights.result(header.id)
        answer = partial(self._peers.send, peer)
        if flight is not None and header.again:
            flight.answer = answer
        elif flight is not None:
            raise InvalidArgument(f"job {header.id} is under way already")
        elif result is not None and header.again and result.header.status == 0:
            answer(result)
        else:
            self._dispatcher.admit(self._identified(peer, header), frame.body, answer)

    def _identified(self, peer: bytes, header: Header) -> Header:
        """Put into a header who the kernel says has sent it."""
        who = self._peers.credentials(peer)
        if who is None:
            return header
        said = header.caller or Caller(service="", pid=0)
        return msgspec.structs.replace(header, caller=msgspec.structs.replace(said, pid=who.pid, uid=who.uid))

    def _on_status(self, peer: bytes, frame: Frame) -> None:
        flight = self.flights.get(frame.header.id)
        if flight is not None and flight.driver is self.drivers.by_peer(peer):
            flight.answer(frame)

    def _on_result(self, peer: bytes, frame: Frame) -> None:
        flight = self.flights.get(frame.header.id)
        if flight is None or flight.driver is not self.drivers.by_peer(peer):
            return
        try:
            if frame.header.status:
                frame.error()
        except DockyardError as error:
            why = f"{flight.header.name}: the answer of {flight.service} cannot be read: {error.message}"
            frame = Frame.failure(flight.header, DockyardError(why))
        self._dispatcher.finish(flight, frame)

    def _on_cancel(self, peer: bytes, frame: Frame) -> None:
        flight = self.flights.get(frame.header.id)
        if flight is not None:
            self._dispatcher.cancel(flight)

    async def _watch_silence(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.drivers.check_silence(SILENCE_LIMIT)
