"""Holding: what a container holds (process, network, mounts; layer, directory, record), and how it is given back."""

from __future__ import annotations

import asyncio
import logging
import shutil
from typing import TYPE_CHECKING

from services.engine.container import Container
from services.engine.lifecycle.connecting import tell_disconnected
from services.engine.lifecycle.mounting import condemn_volumes, tell_unmounted, unmount_volumes
from services.engine.lifecycle.volumes import settle_volumes
from services.engine.record import Change
from shared.protocol import ReleaseInterface, RemoveLayer, RuntimeDelete, UnmountLayer, encode_body

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["erase", "give_back", "remove_directory"]

log = logging.getLogger("dockyard.engine")


async def give_back(engine: Engine, container: Container) -> None:
    """Release process, network and mounts of the last start. All idempotent; what fails is tried again at boot.

    The root filesystem is detached while the last processes end, which have it in a mount namespace of their own; a
    volume's may only go when they have ended.
    """
    record = container.record
    results = await asyncio.gather(
        _end(engine, container),
        engine.call(ReleaseInterface(container=record.id)),
        engine.call(UnmountLayer(container=record.id)),
        return_exceptions=True,
    )
    failures = [result for result in results if isinstance(result, BaseException)]
    for failure in failures:
        log.error("not given back container=%s error=%s", record.id, failure)
    record.forget_interfaces()
    with engine.store.transaction():
        if not failures:
            record.unsettled = False
            tell_disconnected(engine, record)
            tell_unmounted(engine, record)
            container.volumes_given_back.clear()
        engine.store.put_container(record)


async def _end(engine: Engine, container: Container) -> None:
    await engine.call(RuntimeDelete(container=container.id))
    await unmount_volumes(engine, container)


async def erase(engine: Engine, container: Container, *, volumes: bool = False) -> None:
    """Remove what a container has on disk, then its record; ``volumes``: and its anonymous volumes.

    The caller holds the lock; after a crash, boot goes on. What was removed while the caller waited is left alone.
    """
    record = container.record
    if engine.containers.by_id(record.id) is None:
        return
    record.change(Change.REMOVE)
    record.remove_volumes = record.remove_volumes or volumes
    engine.store.put_container(record)
    if record.unsettled:
        await give_back(engine, container)
    await engine.call(RemoveLayer(container=record.id))
    await asyncio.to_thread(remove_directory, engine, record.id)
    with engine.store.transaction():
        condemned = condemn_volumes(engine, record) if record.remove_volumes else []
        engine.store.delete_container(record.id)
        engine.tell(container, "destroy")
        if record.removed_by:
            engine.store.put_outcome(record.removed_by, encode_body(None))
    engine.containers.remove(container)
    engine.execs.drop(record.id)
    await settle_volumes(engine, condemned)
    container.tell_removal()
    if any(image.id in record.images for image in engine.images.removed()):
        await engine.graph.collect()


def remove_directory(engine: Engine, container_id: str) -> None:
    shutil.rmtree(engine.config.root / "containers" / container_id, ignore_errors=True)
