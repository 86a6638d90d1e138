"""Builds: the containers that are steps of one end with it, however it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from services.engine.container import Container
from services.engine.lifecycle import removal
from shared.bus.client import RETRY_TIME
from shared.protocol import DockyardError, ListBuilds

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["BUILDER", "collect", "end"]

log = logging.getLogger("dockyard.engine")

BUILDER = "builder"  # the service
TIMEOUT = 10.0  # seconds


async def end(engine: Engine, build: str, keep: Iterable[str]) -> None:
    """Remove the containers of a build; those to keep become ordinary ones. Its images may be pruned from now on."""
    engine.images.release(build)
    for container in [container for container in engine.containers if container.record.build == build]:
        if container.id in keep:
            container.record.build = ""
            engine.save(container)
        else:
            await _remove(engine, container)


async def _remove(engine: Engine, container: Container) -> None:
    if engine.containers.by_id(container.id) is not None:
        await removal.remove(engine, container, force=True, volumes=True)


async def collect(engine: Engine) -> None:
    """Remove the containers of builds that the builder does not have: it was killed, or has ended them unheard.

    A build that it has and nobody has asked for again, some seconds after it or the engine came, is cancelled.
    """
    candidates = [(container, container.record.build) for container in engine.containers if container.record.build]
    known = await _known(engine)
    for container, build in candidates:
        if build not in known and container.record.build:
            log.info("container of a lost build removed id=%s build=%s", container.id, build)
            try:
                await _remove(engine, container)
            except DockyardError as error:
                log.warning("container of a lost build not removed id=%s error=%s", container.id, error)
    for build in set(engine.images.held_by()) - known:
        engine.images.release(build)
    if known:
        engine.router.spawn(_cancel_forsaken(engine, known))


async def _known(engine: Engine) -> set[str]:
    builds: list[str] = await engine.call(ListBuilds(), timeout=TIMEOUT)
    return set(builds)


async def _cancel_forsaken(engine: Engine, known: set[str]) -> None:
    await asyncio.sleep(RETRY_TIME)
    for build in known & await _known(engine):
        if engine.router.flights.get(build) is None:
            log.info("build cancelled that nobody waits for build=%s", build)
            engine.router.tell_cancel(BUILDER, build)
