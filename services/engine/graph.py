"""Graph: the engine's hold on what the graphdriver keeps; nothing is collected that somebody is about to record."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shared.protocol import GraphCollect, Image, encode_body

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["Graph"]


class Graph:
    """``status``: the storage driver and its facts, noted when the graphdriver came."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = asyncio.Lock()  # held while what is to be kept is named and the rest removed
        self._coming: set[str] = set()
        self.status: dict[str, str] = {}

    async def collect(self) -> int:
        """Have everything removed that no record names; returns the bytes freed.

        Where an image's record cannot be read nothing is.
        """
        if self._engine.quarantine.has_images:
            return 0  # nobody knows which layers those have
        async with self._lock:
            containers = [*(container.id for container in self._engine.containers), *self._engine.quarantine]
            job = GraphCollect(keep_images=list(self._engine.images), keep_containers=[*containers, *self._coming])
            return await self._engine.call(job, timeout=600)

    @asynccontextmanager
    async def coming(self, container_id: str) -> AsyncIterator[None]:
        """Keep the layer of a container that has no record yet."""
        async with self._lock:
            self._coming.add(container_id)
        try:
            yield
        finally:
            self._coming.discard(container_id)

    async def note(self, image_id: str, references: list[str]) -> None:
        """Give an image more references, if it is still there."""
        async with self._lock:
            image = self._engine.images.by_id(image_id)
            if image is not None:
                self._engine.images.put(image, references)

    async def record(self, image: Image, tags: list[str], order: str = "") -> None:
        """Record an image; its loader protects blobs and layers until this returns.

        ``order``: the id of the job that it was made for, which is done with that.
        """
        async with self._lock:
            with self._engine.store.transaction():
                self._engine.images.put(image, tags)
                if order:
                    self._engine.store.put_outcome(order, encode_body(image.id))
