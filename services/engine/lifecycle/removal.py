"""Removal, on request or taken up again after a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.engine.container import Container
from services.engine.lifecycle.holding import erase
from services.engine.lifecycle.restarts import cancel_restart
from services.engine.lifecycle.stop import force as force_stop
from services.engine.record import Status
from shared.protocol import Conflict

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["finish_removal", "remove"]


async def remove(engine: Engine, container: Container, *, force: bool, volumes: bool = False) -> None:
    """Remove a container; ``volumes``: with its anonymous volumes. Errors: Conflict (it runs, and not ``force``)."""
    await engine.router.uninterrupted(_remove_checked(engine, container, force, volumes))


async def _remove_checked(engine: Engine, container: Container, force: bool, volumes: bool) -> None:
    record = container.record
    if not force and (record.running or record.status is Status.RESTARTING):
        why = f"container is {record.status}: stop the container before removing or force remove"
        if record.paused:
            why = "container is paused and must be unpaused first"
        raise Conflict(f'cannot remove container "{record.name}": {why}')
    async with container.lock:
        record.stopped_by_user = record.stopped_by_user or force
        cancel_restart(engine, container)
    while record.running:
        await force_stop(engine, container)
    async with container.lock:
        if engine.containers.by_id(record.id) is not None:
            await erase(engine, container, volumes=volumes)


async def finish_removal(engine: Engine, container: Container) -> None:
    """Go on with a removal that a crash interrupted."""
    async with container.lock:
        await erase(engine, container)
