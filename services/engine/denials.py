"""Denials: what firewalls of the host's have against published ports, kept for `info`, which asks no other process."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from shared.protocol import DockyardError, ListDenials

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["Denials"]

INTERVAL = 30.0  # seconds; a firewall changes rarely, and nobody tells us
PAUSE = 0.5  # seconds in which one asking serves all that have published
TIMEOUT = 5.0  # seconds
log = logging.getLogger("dockyard.engine")


class Denials:
    """``found``: a sentence each, as the netdriver said it last."""

    def __init__(self, engine: Engine) -> None:
        self.found: list[str] = []
        self._engine = engine
        self._asking = False

    async def watch(self) -> None:
        """Ask again and again, for as long as the engine lives."""
        while True:
            await self._ask()
            await asyncio.sleep(INTERVAL)

    def ask_soon(self) -> None:
        """Something was published: `info` is to know in a moment."""
        if not self._asking:
            self._asking = True
            self._engine.router.spawn(self._ask_later())

    async def _ask_later(self) -> None:
        await asyncio.sleep(PAUSE)
        self._asking = False
        await self._ask()

    async def _ask(self) -> None:
        """An absent netdriver has nothing to say."""
        try:
            self.found = await self._engine.call(ListDenials(), timeout=TIMEOUT)
        except DockyardError as error:
            log.debug("denials not asked for error=%s", error)
