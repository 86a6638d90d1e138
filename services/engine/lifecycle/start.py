"""Start: a mount and a network at the same time, then the process."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from services.engine.container import Container
from services.engine.launch import allocate_interface, join, runtime_start
from services.engine.lifecycle.holding import erase, give_back
from services.engine.links import tell_parents
from services.engine.record import Change, Status
from shared.protocol import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    DockyardError,
    MountLayer,
    NotModified,
)

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["note_start", "start", "start_now", "take_up"]

START_EXIT_CODES: dict[type[DockyardError], int] = {CommandNotFound: 127, CommandNotExecutable: 126}
OTHER_START_EXIT_CODE = 128


async def start(engine: Engine, container: Container, attempt: str = "") -> None:
    """Start a container; whoever called may go away meanwhile. Errors as `StartContainer`."""
    container.stop_requested = False
    await engine.router.uninterrupted(start_now(engine, container, attempt))


async def take_up(engine: Engine, container: Container) -> None:
    """Go on with a start whose answer was lost: done if its process runs or has ended, else made again."""
    record = container.record
    async with container.lock:
        if record.running or record.exited_generation == record.generation:
            return
    await start(engine, container, record.attempt)


async def start_now(engine: Engine, container: Container, attempt: str = "") -> None:
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
        record.attempt = attempt
        record.unsettled = True
        record.error = ""
        record.started = time.time_ns()
        engine.store.put_container(record)
        try:
            await _run(engine, container)
        except DockyardError as error:
            await _start_failed(engine, container, error)
            raise
        note_start(engine, container)
    await tell_parents(engine, container)


def note_start(engine: Engine, container: Container) -> None:
    """Record that a start has worked (the caller holds the lock)."""
    record = container.record
    record.change(Change.START)
    record.oom_killed, record.stopped_by_user = False, False
    record.finished = 0
    record.exit_code = 0
    engine.save(container, "start")


async def _run(engine: Engine, container: Container) -> None:
    """Mount and network at the same time, then the process."""
    record = container.record
    host_config = join(engine, record)
    mounting = asyncio.ensure_future(engine.call(MountLayer(container=record.id)))
    connecting = asyncio.ensure_future(allocate_interface(engine, record))
    await asyncio.wait([mounting, connecting])  # both end before a failed start is undone
    rootfs, interface = await asyncio.gather(mounting, connecting)
    record.interface = interface
    started = await engine.call(runtime_start(engine, record, host_config, rootfs, interface))
    record.pid = started.pid


async def _start_failed(engine: Engine, container: Container, error: DockyardError) -> None:
    record = container.record
    record.change(Change.START_FAILED)
    record.error = error.message
    record.pid = 0
    record.exit_code = START_EXIT_CODES.get(type(error), OTHER_START_EXIT_CODE)
    record.interface = None
    engine.save(container)
    await give_back(engine, container)
    if record.host_config.auto_remove:
        await erase(engine, container)
