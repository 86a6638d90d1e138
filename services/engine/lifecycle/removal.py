"""Removal: what a container has on disk, then its record."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

from services.engine.container import Container
from services.engine.lifecycle.holding import give_back
from services.engine.lifecycle.restarts import cancel_restart
from services.engine.lifecycle.stop import force as force_stop
from services.engine.record import Change
from shared.protocol import Conflict, RemoveLayer

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["finish_removal", "remove", "remove_now"]


async def remove(engine: Engine, container: Container, *, force: bool) -> None:
    """Remove a container. Errors: Conflict (it runs and not ``force``)."""
    await engine.router.uninterrupted(_remove_checked(engine, container, force))


async def _remove_checked(engine: Engine, container: Container, force: bool) -> None:
    record = container.record
    if record.running and not force:
        raise Conflict(
            f'cannot remove container "{record.name}": container is running: stop the container before removing or '
            "force remove"
        )
    record.stopped_by_user = record.stopped_by_user or force
    cancel_restart(engine, container)
    while record.running:
        await force_stop(engine, container)
    async with container.lock:
        if engine.containers.by_id(record.id) is not None:
            await remove_now(engine, container)


async def finish_removal(engine: Engine, container: Container) -> None:
    """Go on with a removal that a crash interrupted."""
    async with container.lock:
        await remove_now(engine, container)


async def remove_now(engine: Engine, container: Container) -> None:
    """Remove what a container has on disk, then its record. The caller holds the lock; after a crash, boot goes on."""
    record = container.record
    record.change(Change.REMOVE)
    engine.store.put_container(record)
    if record.unsettled:
        await give_back(engine, container)
    await engine.call(RemoveLayer(container=record.id))
    await asyncio.to_thread(_remove_directory, engine, record.id)
    with engine.store.transaction():
        engine.store.delete_container(record.id)
        engine.tell(container, "destroy")
    engine.containers.remove(container)
    container.tell_removal()


def _remove_directory(engine: Engine, container_id: str) -> None:
    shutil.rmtree(engine.config.root / "containers" / container_id, ignore_errors=True)
