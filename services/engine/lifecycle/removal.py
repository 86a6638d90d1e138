"""Removal, on request or taken up again after a crash."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from services.engine.container import Container
from services.engine.lifecycle.holding import erase, remove_directory
from services.engine.lifecycle.restarts import cancel_restart
from services.engine.lifecycle.stop import force as force_stop
from services.engine.lifecycle.volumes import reconcile_volumes
from services.engine.record import Status
from shared.protocol import (
    Conflict,
    NotFound,
    ReleaseInterface,
    RemoveContainer,
    RemoveLayer,
    RuntimeDelete,
    RuntimeKill,
)

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["finish_removal", "in_quarantine", "remove", "remove_from_quarantine"]


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
        record.removed_by = engine.asker(RemoveContainer)
        await erase(engine, container, volumes=volumes)


def in_quarantine(engine: Engine, ref: str) -> str | None:
    """Return the id of a container whose record cannot be read, if ``ref`` means none that can."""
    try:
        engine.containers.find(ref)
    except NotFound:
        return engine.quarantine.find(ref)
    return None


async def remove_from_quarantine(engine: Engine, container_id: str, *, force: bool) -> None:
    """Remove all that a container has whose record cannot be read; its volumes are free then.

    Errors: Conflict (not ``force``).
    """
    if not force:
        raise Conflict(f"cannot remove container {container_id}: its record cannot be read: force remove")
    with suppress(NotFound):
        await engine.call(RuntimeKill(container=container_id, signal=signal.SIGKILL))
    await engine.call(RuntimeDelete(container=container_id))
    await engine.call(ReleaseInterface(container=container_id))
    await engine.call(RemoveLayer(container=container_id))
    await asyncio.to_thread(remove_directory, engine, container_id)
    engine.quarantine.forget(container_id)
    await reconcile_volumes(engine)


async def finish_removal(engine: Engine, container: Container) -> None:
    """Go on with a removal that a crash interrupted."""
    async with container.lock:
        await erase(engine, container)
