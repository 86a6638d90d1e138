"""Holding: what a started container holds (process, network, mount), and how it is given back."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from services.engine.container import Container
from shared.protocol import ReleaseInterface, RuntimeDelete, UnmountLayer

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["give_back"]

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
