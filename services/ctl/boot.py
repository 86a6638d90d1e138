"""Boot: each process begins as soon as its code is loaded, and works when the one before has said that it is ready."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from services.ctl.readiness import Readiness
from services.ctl.waiting import in_thread
from shared.runtime.turns import Turns

__all__ = ["boot"]

log = logging.getLogger("dockyard.arbiter")
Begun = Mapping[str, "asyncio.Future[None]"]


async def boot(
    watchers: Sequence[Any],
    turns: Turns,
    readiness: Readiness,
    spawn: Callable[[Any], Awaitable[None]],
    say: Callable[[str], None],
) -> None:
    """Start circus's watchers, in their order. Errors: TimeoutError (one is not ready in time), those of ``spawn``."""
    loop = asyncio.get_running_loop()
    begun = {watcher.name: loop.create_future() for watcher in watchers}
    beginning = asyncio.ensure_future(_begin(watchers, spawn, begun))
    try:
        for watcher in watchers:
            say(f"starting {watcher.name}")
            await begun[watcher.name]
            turns.give(watcher.name)
            await in_thread(readiness.wait_for, watcher.name)
            log.info("ready service=%s", watcher.name)
    finally:
        beginning.cancel()


async def _begin(watchers: Sequence[Any], spawn: Callable[[Any], Awaitable[None]], begun: Begun) -> None:
    """Begin one after the other; ``begun`` tells it of each, or why not."""
    for watcher in watchers:
        try:
            await spawn(watcher)
        except Exception as error:
            begun[watcher.name].set_exception(error)
            return
        begun[watcher.name].set_result(None)
