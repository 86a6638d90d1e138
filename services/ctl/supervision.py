"""Supervision: a part that ends too often, or that circus has given up, ends the whole stack, visibly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from services.ctl.watcher import RESTART_WINDOW, BoundedWatcher

__all__ = ["supervise"]

RESTART_LIMIT = 10  # more restarts of one watcher within RESTART_WINDOW escalate
INTERVAL = 1.0  # seconds


async def supervise(
    watchers: Sequence[BoundedWatcher], fail: Callable[[str], object], show: Callable[[str], object]
) -> None:
    """Look at the watchers for ever: ``fail`` is told why the stack must end, ``show`` what is down at each look."""
    while True:
        await asyncio.sleep(INTERVAL)
        for watcher in watchers:
            if watcher.restarts() > RESTART_LIMIT:
                fail(f"{watcher.name} was restarted {watcher.restarts()} times in {RESTART_WINDOW:.0f} s")
            elif watcher.was_started and watcher.is_stopped():
                fail(f"{watcher.name} could not be started")
        show("; ".join(filter(None, (watcher.what_is_down() for watcher in watchers))))
