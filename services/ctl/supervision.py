"""Supervision: a part that ends too often, or that circus has given up, ends the whole stack, visibly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from services.ctl.waiting import in_thread
from services.ctl.watcher import RESTART_WINDOW, BoundedWatcher
from shared.runtime.room import shortage

__all__ = ["supervise"]

RESTART_LIMIT = 10  # more restarts of one watcher within RESTART_WINDOW escalate
INTERVAL, ROOM_INTERVAL = 1.0, 5.0  # seconds


async def supervise(
    watchers: Sequence[BoundedWatcher],
    fail: Callable[[str], object],
    show: Callable[[str], object],
    root: Path | None = None,
) -> None:
    """Look at the watchers for ever: ``fail`` is told why the stack must end, ``show`` what is wrong at each look.

    ``root``: whose file system should have some room.
    """
    room = Room(root)
    looking = asyncio.ensure_future(room.watch())
    try:
        while True:
            await asyncio.sleep(INTERVAL)
            for watcher in watchers:
                if watcher.restarts() > RESTART_LIMIT:
                    fail(f"{watcher.name} was restarted {watcher.restarts()} times in {RESTART_WINDOW:.0f} s")
                elif watcher.was_started and watcher.is_stopped():
                    fail(f"{watcher.name} could not be started")
            show("; ".join(filter(None, (*(watcher.what_is_down() for watcher in watchers), room.shortage))))
    finally:
        looking.cancel()


class Room:
    """What the file system of a root is short of. Asked by the way: one that hangs keeps nobody from anything."""

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self.shortage = ""

    async def watch(self) -> None:
        while self._root is not None:
            self.shortage = await in_thread(shortage, self._root)
            await asyncio.sleep(ROOM_INTERVAL)
