"""Start: mounts and a network at the same time, then the process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from services.engine.container import Container
from services.engine.endpoints import allocate_interfaces, resolve_endpoints
from services.engine.health import begin_health
from services.engine.launch import join, runtime_start
from services.engine.lifecycle.connecting import tell_connected
from services.engine.lifecycle.holding import erase, give_back
from services.engine.lifecycle.mounting import mount_volumes
from services.engine.links import allow, tell_parents
from services.engine.record import Change, ContainerRecord, Status
from shared.bus.context import asked_again, job_id, waiting_for
from shared.protocol import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    DockyardError,
    MountLayer,
    NotModified,
    Unavailable,
)

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["begun_by_us", "note_start", "start", "start_now"]

START_EXIT_CODES: dict[type[DockyardError], int] = {CommandNotFound: 127, CommandNotExecutable: 126}
OTHER_START_EXIT_CODE = 128


def begun_by_us(container: Container) -> bool:
    """Say whether the container's last start was begun for the present job, before its answer was lost."""
    return asked_again() and container.record.attempt == job_id()


async def start(engine: Engine, container: Container) -> None:
    """Start a container; whoever called may go away meanwhile. Errors as `StartContainer`.

    Asked again, it is done if its process runs or has ended, else made again.
    """
    with waiting_for("the end of the boot"):
        await engine.booted.wait()  # until then a start that was interrupted may be taken for none
    if begun_by_us(container):
        async with container.lock:
            record = container.record
            if record.running or record.exited_generation == record.generation:
                return
    await engine.router.uninterrupted(start_now(engine, container))


async def start_now(
    engine: Engine, container: Container, failed: Callable[[Engine, Container], object] | None = None
) -> None:
    """Start a container (errors as `StartContainer`); ``failed`` says what is next before a failure is on record."""
    record = container.record
    async with container.lock:
        if record.paused:
            raise Conflict("cannot start a paused container, try unpause instead")
        if record.running:
            raise NotModified(f"Container {record.id} is already running")
        if record.status is Status.REMOVING:
            raise Conflict("container is marked for removal and cannot be started")
        if record.unsettled:
            await give_back(engine, container)
        record.generation += 1
        record.attempt = job_id()
        record.unsettled = True
        record.error = ""
        earlier, record.started = record.started, time.time_ns()
        engine.store.put_container(record)
        try:
            await _run(engine, container)
        except DockyardError as error:
            _note_failure(container, error, earlier)
            if failed is not None:
                failed(engine, container)
            await _undo(engine, container)
            if isinstance(error, Unavailable) and engine.containers.by_id(record.id) is None:
                raise DockyardError(error.message) from error  # it has removed itself: no use in asking again
            raise
        note_start(engine, container)
    if record.interface is not None and record.interface.ports:
        engine.denials.ask_soon()
    await tell_parents(engine, container)


def note_start(engine: Engine, container: Container) -> None:
    """Record that a start has worked (the caller holds the lock)."""
    record = container.record
    _count_restart(record)
    record.change(Change.START)
    record.oom_killed, record.stopped_by_user = False, False
    record.exit_code = 0
    record.health = begin_health(record.config)
    with engine.store.transaction():
        tell_connected(engine, record)
        engine.save(container, "start")


def _count_restart(record: ContainerRecord) -> None:
    """Count an automatic start; one by hand begins anew."""
    if record.status is Status.RESTARTING:
        record.restart_count += 1
    else:
        record.restart_count, record.restart_delay = 0, 0.0


async def _run(engine: Engine, container: Container) -> None:
    """Mounts and network at the same time, then the process."""
    record = container.record
    host_config = join(engine, record)
    if resolve_endpoints(engine, record):
        engine.store.put_container(record)
    mounting = asyncio.ensure_future(engine.call(MountLayer(container=record.id)))
    filling = asyncio.ensure_future(mount_volumes(engine, container))
    connecting = asyncio.ensure_future(allocate_interfaces(engine, record))
    # all end before a failed start is undone
    await asyncio.gather(mounting, filling, connecting, return_exceptions=True)
    rootfs, mounts, interface = mounting.result(), filling.result(), connecting.result()
    record.interface = interface
    await allow(engine, record)
    job = runtime_start(engine, record, host_config, rootfs, interface)
    started = await engine.call(msgspec.structs.replace(job, mounts=mounts))
    record.pid = started.pid


def _note_failure(container: Container, error: DockyardError, earlier: int) -> None:
    """``earlier``: when it was started the last time; between two tries of a restart policy the try counts instead."""
    record = container.record
    if record.status is not Status.RESTARTING:
        record.started = earlier
    if not isinstance(error, Unavailable):  # that was no fault of the container's
        _count_restart(record)
    record.change(Change.START_FAILED)
    record.error = error.message
    record.pid = 0
    record.exit_code = START_EXIT_CODES.get(type(error), OTHER_START_EXIT_CODE)
    record.forget_interfaces()


async def _undo(engine: Engine, container: Container) -> None:
    engine.save(container)
    await give_back(engine, container)
    if container.record.host_config.auto_remove:
        await erase(engine, container, volumes=True)
