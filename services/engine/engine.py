"""Engine: the object that handlers get. It holds the state and the router, and no logic of a noun."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from services.engine import boot
from services.engine.container import Container, Containers
from services.engine.counts import JobCounts
from services.engine.denials import Denials
from services.engine.disk import Measuring
from services.engine.events import Events
from services.engine.execs import Execs
from services.engine.flights import Flight
from services.engine.graph import Graph
from services.engine.handlers import all_jobs
from services.engine.handlers.system import VERSION
from services.engine.images import Images
from services.engine.journal import Journal
from services.engine.networks import Networks
from services.engine.prepared import Prepared
from services.engine.quarantine import Quarantine
from services.engine.router import Router
from services.engine.spans import Spans
from services.engine.stackid import StackId
from services.engine.store import Store, StoreLocked
from services.engine.volumes import Volumes
from shared.bus.context import current
from shared.bus.sockets import engine_endpoint, events_endpoint, zmq_context
from shared.protocol import Bridge, Job, encode_body, job_name
from shared.runtime.config import Config, label_warnings
from shared.runtime.process import SHUTDOWN_HANDLERS_TIMEOUT
from shared.runtime.room import shortage

__all__ = ["Engine", "serve"]

R = TypeVar("R")
log = logging.getLogger("dockyard.engine")


class Engine:
    def __init__(self, config: Config, store: Store, identity: StackId) -> None:
        self.config = config
        self.identity, self._parent = identity, os.getppid()
        self.stack_is_new = identity.is_new_after(store.recall("stack", StackId))
        store.remember("stack", identity)
        self.store = store
        self.events = Events(store, config.event_retention)
        self.journal = Journal(store, config.job_retention)
        self.counts = JobCounts()
        self.spans = Spans(config.otlp_endpoint, self._flight, VERSION) if config.otlp_endpoint else None
        self.router = Router(self, all_jobs(), self._job_ended, store.outcome)
        self.containers = Containers(store.containers())
        self.execs = Execs(store)
        self.images = Images(store)
        self.quarantine = Quarantine(store)
        self.graph = Graph(self)
        self.networks: Networks = Networks(store)
        self.volumes = Volumes(store, self.containers, self.quarantine)
        self.measuring = Measuring(self)
        self.prepared = Prepared(store)
        self.booted = asyncio.Event()
        self.held_up = ""  # by what the boot is
        self.booted_at = 0  # nanoseconds since the epoch; 0 until then
        self.bridge: Bridge | None = None
        self.denials = Denials(self)
        self._shutdown_handlers: list[Callable[[], Awaitable[None]]] = [self._send_spans]

    def _flight(self, job_id: str) -> Flight | None:
        return self.router.flights.get(job_id)

    def _job_ended(self, flight: Flight) -> None:
        self.journal.note(flight)
        self.counts.note(flight)
        if self.spans is not None:
            self.spans.note(flight)

    async def _send_spans(self) -> None:
        if self.spans is not None:
            await asyncio.to_thread(self.spans.close)

    def on_shutdown(self, handler: Callable[[], Awaitable[None]]) -> None:
        """Have ``handler`` run at the shutdown, at the same time as all others, when no job is under way any more."""
        self._shutdown_handlers.append(handler)

    async def call(self, job: Job[R], *, timeout: float | None = 60.0) -> R:
        """Call a job, of a driver or of our own, as a child of the present one."""
        return await self.router.call(job, timeout=timeout)

    def warnings_now(self) -> list[str]:
        """Return what an operator should know: records that could not be read, parts that are away."""
        warnings = [
            f"WARNING: {kind} record {id_} is quarantined: {why}" for kind, id_, why in self.store.quarantined()
        ]
        warnings += [f"WARNING: {warning}" for warning in (*label_warnings(self.config), *self.denials.found)]
        if full := shortage(self.config.root):
            warnings.append(f"WARNING: {full}")
        present = {driver.service for driver in self.router.drivers if driver.usable}
        parts = [*boot.DRIVERS, *(part for part in boot.OTHERS if part in self.router.drivers.seen)]
        return warnings + [f"WARNING: {part} does not answer" for part in parts if part not in present]

    async def sizes(self, container_id: str) -> tuple[int, int]:
        """Return the bytes of a container's writable layer, and of its whole root filesystem."""
        return await self.measuring.container(container_id)

    def save(self, container: Container, action: str = "", **attributes: str) -> None:
        """Make a container's record durable, together with the event that tells of it."""
        with self.store.transaction():
            self.store.put_container(container.record)
            if action:
                self.tell(container, action, **attributes)

    def done(self, kind: type[Job[R]], result: R) -> None:
        """Note, in the transaction that makes its work durable, that the present job is done, if it is of that kind.

        Asked again after its answer was lost, it is answered with this result.
        """
        if asker := self.asker(kind):
            self.store.put_outcome(asker, encode_body(result))

    def asker(self, kind: type[Job[Any]]) -> str:
        """Return the id of the present job if it is of that kind, else an empty string."""
        context = current.get()
        return context.header.id if context is not None and context.header.name == job_name(kind) else ""

    def tell(self, container: Container, action: str, **attributes: str) -> None:
        """Journal and publish a container event: labels, image and name are among its attributes."""
        record = container.record
        named = {"image": record.requested_image, "name": record.name}
        self.events.append("container", action, record.id, {**(record.config.labels or {}), **named, **attributes})

    async def shut_down(self) -> None:
        """Close the gate, give the jobs under way ``shutdown_timeout`` seconds, run the handlers, end."""
        self.router.shut()
        deadline = asyncio.get_running_loop().time() + self.config.shutdown_timeout
        while self.router.busy() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
        if self._shutdown_handlers:
            tasks = [asyncio.ensure_future(handler()) for handler in self._shutdown_handlers]
            _, late = await asyncio.wait(tasks, timeout=SHUTDOWN_HANDLERS_TIMEOUT)
            for task in late:
                log.error("shutdown handler not done in time")
                task.cancel()
        self.router.close()
        await asyncio.sleep(0)
        self.events.close()
        self.journal.flush()
        if os.getppid() == self._parent:  # else the arbiter has crashed
            self.store.remember("stack", msgspec.structs.replace(self.identity, ended=True))
        self.store.close()


async def serve(
    config: Config,
    stop: threading.Event,
    on_stop: Callable[[Callable[[], None]], None],
    identity: StackId | None = None,
) -> None:
    """Run the engine until ``stop``: no new job, wait for those under way, then leave."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(stopped.set)

    on_stop(wake)
    config.run.mkdir(mode=0o711, parents=True, exist_ok=True)
    try:
        store = Store(config.root)
    except StoreLocked as error:
        log.error("%s", error)
        sys.exit(1)
    engine = Engine(config, store, identity or StackId.present())
    context = zmq_context()
    engine.events.bind(context, events_endpoint(config.run))
    engine.router.bind(context, engine_endpoint(config.run))
    engine.router.spawn(engine.journal.keep())
    engine.router.spawn(engine.execs.keep())
    boot.begin(engine)
    await stopped.wait()
    await engine.shut_down()
