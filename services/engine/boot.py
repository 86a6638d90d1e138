"""Boot: drivers come, the network is made, state and kernel are reconciled, and then the API may accept.

A driver that comes back later passes through the same steps, for its part.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from services.engine import builds
from services.engine.container import Container
from services.engine.drivers import Driver
from services.engine.health import note_health
from services.engine.lifecycle.execs import reconcile_execs
from services.engine.lifecycle.exits import note_exit, settle
from services.engine.lifecycle.networks import restore_interfaces
from services.engine.lifecycle.pause import note_paused
from services.engine.lifecycle.removal import finish_removal
from services.engine.lifecycle.restarts import resume_restarts
from services.engine.lifecycle.start import note_start
from services.engine.lifecycle.stillness import wake_all
from services.engine.lifecycle.volumes import reconcile_volumes
from services.engine.record import ContainerRecord, Status
from shared.bus.context import current
from shared.protocol import (
    AcceptConnections,
    Conflict,
    DockyardError,
    GraphStatus,
    InitNetworkDriver,
    ListInterfaces,
    Running,
    RuntimeDelete,
    RuntimeKill,
    RuntimeList,
    ServeApi,
)

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["await_end", "begin"]

log = logging.getLogger("dockyard.engine")

DRIVERS = ("graphdriver", "netdriver", "execdriver")
OTHERS = ("builder", "dns", "reader")  # parts without which a boot goes on
TELLING_TIME = 0.5  # seconds
LOST = "its end was seen by nobody, and its exit status is lost"
LOST_EXIT_CODE = 255  # of a container whose end nobody saw (a power cut), as dockerd has it


def begin(engine: Engine) -> None:
    """Start the boot in the background; `Engine.booted` is set at its end."""
    engine.router.on_ready = lambda driver: _driver_ready(engine, driver)
    engine.router.spawn(_boot(engine))


async def await_end(engine: Engine) -> None:
    """Return once the boot is complete. Errors: Conflict, just before the job's deadline: what holds it up."""
    context = current.get()
    remaining = context.remaining if context is not None else None
    try:
        async with asyncio.timeout(None if remaining is None else max(0.0, remaining - TELLING_TIME)):
            await engine.booted.wait()
    except TimeoutError:
        raise Conflict(engine.held_up or "the boot is under way") from None


async def _boot(engine: Engine) -> None:
    for service in DRIVERS:
        await engine.router.drivers.wait_for_service(service)
    await _until_done(engine, _init_network)
    await _until_done(engine, _reconcile_runtime)
    await _until_done(engine, _collect_graph)
    log.info(
        "boot complete execdriver=%s graphdriver=%s bridge=%s containers=%d images=%d",
        engine.config.exec_driver,
        engine.graph.status.get("Driver", ""),
        (engine.bridge and engine.bridge.address) or "none",
        len(engine.containers),
        len(engine.images),
    )
    engine.booted_at = time.time_ns()
    engine.booted.set()
    for driver in engine.router.drivers.of("apiserver"):
        await _open_api(engine, driver)
    resume_restarts(engine)
    wake_all(engine)
    if engine.router.drivers.of(builds.BUILDER):
        await _until_done(engine, builds.collect)
    engine.router.spawn(engine.denials.watch())


async def _until_done(engine: Engine, step: Callable[[Engine], Awaitable[None]]) -> None:
    """Repeat a step while drivers come and go; anything but their absence is a failure worth a log line."""
    while True:
        try:
            await step(engine)
            engine.held_up = ""
            return
        except DockyardError as error:
            engine.held_up = error.message
            log.error("boot step failed step=%s error=%s", getattr(step, "__name__", ""), error)
            await asyncio.sleep(1)


def _driver_ready(engine: Engine, driver: Driver) -> None:
    """A driver (re)appeared: after the boot, set right what it may have missed."""
    if not engine.booted.is_set():
        return
    if driver.service == "apiserver":
        engine.router.spawn(_open_api(engine, driver))
    elif driver.service == "netdriver":
        engine.router.spawn(_set_right(engine, _init_network))
    elif driver.service == "execdriver":
        engine.router.spawn(_set_right(engine, _reconcile_runtime))
    elif driver.service == "graphdriver":
        engine.router.spawn(_set_right(engine, _collect_graph))
    elif driver.service == builds.BUILDER:
        engine.router.spawn(_until_done(engine, builds.collect))


async def _set_right(engine: Engine, step: Callable[[Engine], Awaitable[None]]) -> None:
    await _until_done(engine, step)
    for container in engine.containers:
        if _is_to_be_settled(container):
            engine.router.spawn(settle(engine, container))


def _is_to_be_settled(container: Container) -> bool:
    """Say whether an end has not had all its consequences: something is held still, or it is to remove itself."""
    record = container.record
    removes_itself = record.host_config.auto_remove and record.status is Status.EXITED
    return not record.running and (record.unsettled or removes_itself)


async def _open_api(engine: Engine, driver: Driver) -> None:
    try:
        await engine.router.call(ServeApi(hosts=list(engine.config.api_hosts)), driver=driver, timeout=10)
        await engine.router.call(AcceptConnections(), driver=driver, timeout=10)
    except DockyardError as error:
        log.warning("api worker does not accept pid=%d error=%s", driver.pid, error)


async def _init_network(engine: Engine) -> None:
    async with engine.networks.lock:
        held = [c.record for c in engine.containers if c.record.running or c.record.unsettled]
        generations: dict[str, int | None] = dict.fromkeys(engine.quarantine)
        job = InitNetworkDriver(
            containers={**generations, **{record.id: record.generation for record in held}},
            exact=not engine.booted.is_set(),
            networks=engine.networks.made(),
            connected={record.id: [place.network for place in record.endpoints.values()] for record in held},
        )
        engine.bridge = await engine.call(job)
        engine.networks.note_bridge(engine.bridge)
    engine.store.remember("bridge", engine.bridge)
    await restore_interfaces(engine)


async def _collect_graph(engine: Engine) -> None:
    engine.graph.status = await engine.call(GraphStatus())
    engine.store.remember("graph_status", engine.graph.status)
    freed = await engine.graph.collect()
    if freed:
        log.info("graph collected bytes=%d", freed)
    await reconcile_volumes(engine)


async def _reconcile_runtime(engine: Engine) -> None:
    """Correct what the records say by what the runtime knows, and remove what no record wants."""
    known = await _runtime_list(engine)
    for container_id, entry in known.items():
        if engine.containers.by_id(container_id) is None and container_id not in engine.quarantine:
            await _remove_stray(engine, entry)
    for container in engine.containers:
        async with container.lock:
            if _differs(container, known.get(container.id)):
                known = await _runtime_list(engine)  # older than this change, maybe; under the lock it is not
            await _reconcile(engine, container, known.get(container.id))
        if _is_to_be_settled(container):
            engine.router.spawn(settle(engine, container))
    await reconcile_execs(engine)


async def _runtime_list(engine: Engine) -> dict[str, Running]:
    return {entry.container: entry for entry in await engine.call(RuntimeList())}


def _runs(container: Container, entry: Running | None) -> bool:
    """Say whether the runtime has the container's present start running; one whose exit is known does not."""
    record = container.record
    return (
        entry is not None
        and entry.exit_code is None
        and entry.generation == record.generation
        and record.exited_generation < record.generation
    )


def _differs(container: Container, entry: Running | None) -> bool:
    runs = _runs(container, entry)
    paused = runs and entry is not None and entry.paused
    return (container.record.running, container.record.paused) != (runs, paused)


async def _reconcile(engine: Engine, container: Container, entry: Running | None) -> None:
    record = container.record
    if entry is not None and entry.generation != record.generation:
        entry = None  # of an earlier start
    if entry is not None and _was_interrupted(record):
        record.pid = entry.pid
        record.note_interfaces((await engine.call(ListInterfaces(container=record.id))).get(record.id, []))
        note_start(engine, container)
    if record.status is Status.REMOVING:
        engine.router.spawn(finish_removal(engine, container))
    elif not record.running:
        return
    elif entry is None:
        note_exit(engine, container, LOST_EXIT_CODE, time.time(), oom_killed=False, error=LOST)
    elif entry.exit_code is not None:
        note_exit(engine, container, entry.exit_code, entry.exited_at, entry.oom_killed, entry.error)
    else:
        _correct(engine, container, entry)


def _correct(engine: Engine, container: Container, entry: Running) -> None:
    """Set right what has changed and an engine did not live to record: a pause, a start, health."""
    record = container.record
    if record.paused != entry.paused:
        note_paused(engine, container, paused=entry.paused)
    if record.pid != entry.pid:
        record.pid = entry.pid
        engine.save(container)
    if entry.health is not None:
        note_health(engine, container, entry.generation, entry.health)


def _was_interrupted(record: ContainerRecord) -> bool:
    """Say whether an engine died between the beginning of a start and its result: what it started counts.

    A start that has failed for its caller does not, whatever became of it: it is undone.
    """
    begun = record.unsettled and not record.error and record.exited_generation < record.generation
    return begun and record.status in (Status.CREATED, Status.EXITED, Status.RESTARTING)


async def _remove_stray(engine: Engine, entry: Running) -> None:
    log.warning("stray container removed id=%s pid=%d", entry.container, entry.pid)
    if entry.exit_code is None:
        try:
            await engine.call(RuntimeKill(container=entry.container, signal=9))
        except DockyardError as error:
            log.debug("stray container was gone error=%s", error)
    await engine.call(RuntimeDelete(container=entry.container))
