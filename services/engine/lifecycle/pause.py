"""Pause and unpause, and how a paused container is brought to run on so that a signal reaches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.engine.container import Container
from services.engine.record import Change, Status
from shared.protocol import Conflict, NotFound, RuntimePause, RuntimeUnpause

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["check_running", "not_running", "note_paused", "pause", "thaw", "unpause"]


async def pause(engine: Engine, container: Container) -> None:
    """Freeze a container's processes. Errors: Conflict."""
    await engine.router.uninterrupted(_pause(engine, container))


async def _pause(engine: Engine, container: Container) -> None:
    record = container.record
    async with container.lock:
        check_running(container)
        if record.paused:
            raise Conflict(f"Container {record.id} is already paused")
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
            raise Conflict(f"Container {container.id} is not paused")
        try:
            await engine.call(RuntimeUnpause(container=container.id))
        except NotFound:
            raise not_running(container) from None
        note_paused(engine, container, paused=False)


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
    engine.save(container, "pause" if paused else "unpause")


def check_running(container: Container) -> None:
    """Raise Conflict if the container has no process of its own at present."""
    if container.record.status is Status.RESTARTING:
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
    if not container.record.running:
        raise not_running(container)


def not_running(container: Container) -> Conflict:
    return Conflict(f"container {container.id} is not running")
