"""Pause and unpause, and how a paused container is brought to run on so that a signal reaches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.engine.container import Container
from services.engine.record import Change, Status
from shared.bus.context import asked_again, job_id
from shared.protocol import Conflict, NotFound, PauseContainer, RuntimePause, RuntimeUnpause, UnpauseContainer

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["check_running", "not_running", "note_paused", "pause", "thaw", "unpause"]


async def pause(engine: Engine, container: Container) -> None:
    """Freeze a container's processes. Errors: Conflict."""
    await engine.router.uninterrupted(_pause(engine, container))


async def _pause(engine: Engine, container: Container) -> None:
    record = container.record
    async with container.lock:
        if record.paused and begun_by_us(container):
            return
        check_running(container)
        if record.paused:
            raise Conflict(f"Container {record.id} is already paused")
        _note_attempt(engine, container)
        try:
            await engine.call(RuntimePause(container=record.id))
        except NotFound:
            raise not_running(container) from None
        note_paused(engine, container, paused=True)


async def unpause(engine: Engine, container: Container) -> None:
    """Let a paused container's processes run on. Errors: Conflict."""
    await engine.router.uninterrupted(_unpause(engine, container))


async def _unpause(engine: Engine, container: Container) -> None:
    async with container.lock:
        if not container.record.paused:
            if begun_by_us(container):
                return
            raise Conflict(f"Container {container.id} is not paused")
        _note_attempt(engine, container)
        try:
            await engine.call(RuntimeUnpause(container=container.id))
        except NotFound:
            raise not_running(container) from None
        note_paused(engine, container, paused=False)


def begun_by_us(container: Container) -> bool:
    """Say whether the present job has begun to pause it, or to let it run on, before its answer was lost."""
    return asked_again() and container.record.pausing == job_id()


def _note_attempt(engine: Engine, container: Container) -> None:
    """Say on record who pauses: if an engine dies now, the next one sees what came of it, and whose it is."""
    container.record.pausing = job_id()
    engine.store.put_container(container.record)


async def thaw(engine: Engine, container: Container) -> None:
    """Have a paused container run on for the signal that it was sent (the caller holds the lock); no event tells.

    Errors: NotFound (its process is gone).
    """
    await engine.call(RuntimeUnpause(container=container.id))
    container.record.change(Change.UNPAUSE)
    engine.save(container)


def note_paused(engine: Engine, container: Container, *, paused: bool) -> None:
    """Record, with its event, that the processes stand still or run on (the caller holds the lock)."""
    container.record.change(Change.PAUSE if paused else Change.UNPAUSE)
    with engine.store.transaction():
        engine.save(container, "pause" if paused else "unpause")
        engine.done(PauseContainer if paused else UnpauseContainer, None)


def check_running(container: Container) -> None:
    """Raise Conflict if the container has no process of its own at present."""
    if container.record.status is Status.RESTARTING:
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
    if not container.record.running:
        raise not_running(container)


def not_running(container: Container) -> Conflict:
    return Conflict(f"container {container.id} is not running")
