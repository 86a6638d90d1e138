"""Holding: what a container holds (process, network, mount; layer, directory, record), and how it is given back."""

from __future__ import annotations

import asyncio
import logging
import shutil
from typing import TYPE_CHECKING

from services.engine.container import Container
from services.engine.record import Change
from shared.protocol import ReleaseInterface, RemoveLayer, RuntimeDelete, UnmountLayer

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["erase", "give_back"]

log = logging.getLogger("dockyard.engine")


async def give_back(engine: Engine, container: Container) -> None:
    """Release process, network and mount of the last start. All idempotent; what fails is tried again at boot."""
    record = container.record
    results = await asyncio.gather(
        _delete_then_unmount(engine, record.id),
        engine.call(ReleaseInterface(container=record.id)),
        return_exceptions=True,
    )
    failures = [result for result in results if isinstance(result, BaseException)]
    for failure in failures:
        log.error("not given back container=%s error=%s", record.id, failure)
    record.interface = None
    if not failures:
        record.unsettled = False
    engine.store.put_container(record)


async def _delete_then_unmount(engine: Engine, container_id: str) -> None:
    await engine.call(RuntimeDelete(container=container_id))
    await engine.call(UnmountLayer(container=container_id))


async def erase(engine: Engine, container: Container) -> None:
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
    engine.execs.drop(record.id)
    container.tell_removal()


def _remove_directory(engine: Engine, container_id: str) -> None:
    shutil.rmtree(engine.config.root / "containers" / container_id, ignore_errors=True)
