"""Tasks: what the engine does in the background, kept hold of until it is done."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

__all__ = ["Tasks", "outlives_caller"]

R = TypeVar("R")
outlives_caller: ContextVar[bool] = ContextVar("dockyard_outlives_caller", default=False)
log = logging.getLogger("dockyard.engine")


class Tasks:
    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``work`` in the background; its failure is logged."""
        task = self._begin(work)
        task.add_done_callback(_log_failure)
        return task

    async def uninterrupted(self, work: Coroutine[Any, Any, R]) -> R:
        """Do ``work`` to its end even if the caller is cancelled, or its deadline passes, meanwhile."""
        return await asyncio.shield(self._begin(_outliving(work)))

    def _begin(self, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()


def _log_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("background task failed", exc_info=error)


async def _outliving(work: Coroutine[Any, Any, R]) -> R:
    outlives_caller.set(True)
    return await work
