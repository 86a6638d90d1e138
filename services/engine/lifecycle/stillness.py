"""Stillness: a container that is paused for as long as something is made of its files, and by no means longer.

`ContainerRecord.held_still` is on record before the pause is asked for: whoever dies meanwhile, the next boot wakes it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from services.engine.container import Container
from services.engine.lifecycle.pause import pause, unpause
from shared.protocol import Conflict, Unavailable

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["held_still", "wake_all"]

RETRY_INTERVAL = 0.5  # seconds
log = logging.getLogger("dockyard.engine")


@asynccontextmanager
async def held_still(engine: Engine, container: Container) -> AsyncIterator[None]:
    """Pause a container; one that does not run, or that somebody else has paused, is left as it is."""
    async with container.stillness:
        if container.record.running and not container.record.paused:
            _note(engine, container, held=True)
        try:
            if container.record.held_still:
                await _pause(engine, container)
            yield
        finally:
            await engine.router.uninterrupted(_wake(engine, container))


async def _pause(engine: Engine, container: Container) -> None:
    try:
        await pause(engine, container)
    except Conflict:  # it has ended, or was paused, a moment ago: it stands still, and is not ours to wake
        _note(engine, container, held=False)


async def _wake(engine: Engine, container: Container) -> None:
    while container.record.held_still and engine.containers.by_id(container.id) is container:
        try:
            if container.record.paused:
                await unpause(engine, container)
            _note(engine, container, held=False)
        except Conflict:
            log.info("woken by somebody else container=%s", container.id)
            _note(engine, container, held=False)
        except Unavailable as error:
            log.warning("not woken yet container=%s error=%s", container.id, error)
            await asyncio.sleep(RETRY_INTERVAL)


def _note(engine: Engine, container: Container, *, held: bool) -> None:
    if engine.containers.by_id(container.id) is container:  # a record that was removed stays removed
        container.record.held_still = held
        engine.store.put_container(container.record)


def wake_all(engine: Engine) -> None:
    """At boot: let run on what an engine that died held still."""
    for container in engine.containers:
        if container.record.held_still:
            engine.router.spawn(_wake(engine, container))
