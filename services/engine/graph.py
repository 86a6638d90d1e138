"""Graph: the engine's hold on what the graphdriver keeps; nothing is collected that somebody is about to record."""

from __future__ import annotations

import asyncio
import bisect
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from shared.protocol import COLLECTED_BY, GraphCollect, Image, encode_body

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["Graph", "pages", "users_of"]


class Graph:
    """``status``: the storage driver and its facts, noted when the graphdriver came."""

    names_at_once = 100_000  # 7 MB of a message, which may have 16 MiB

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
            containers = {*(container.id for container in self._engine.containers), *self._engine.quarantine}
            images = self._engine.images
            for image in images.removed():
                if not users_of(self._engine, image):
                    images.forget(image)
            keep = pages(
                {name for image in [*images, *images.removed()] for name in image.names},
                containers | self._coming,
                self.names_at_once,
            )
            return sum([await self._engine.call(job, timeout=600) for job in keep])

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


def users_of(engine: Engine, image: Image) -> list[str]:
    """Return the ids of the containers that are made from an image or mount it, running ones first."""
    using = [c.record for c in engine.containers if image.id in c.record.images]
    running_first = [record.id for record in sorted(using, key=lambda record: not record.running)]
    return running_first + list(engine.quarantine.users_of_image(image.id))


def pages(names: set[str], containers: set[str], most: int) -> list[GraphCollect]:
    """Say what is to be kept in jobs of ``most`` names, which cover every name there can be."""
    by_key = sorted([(_key(name), name) for name in names | containers])
    edges = ["", *dict.fromkeys(key[:COLLECTED_BY] for key, _ in by_key[most::most]), ""]
    jobs, at = [], 0
    for begin, end in itertools.pairwise(edges):
        until = bisect.bisect_left(by_key, (end,)) if end else len(by_key)
        page = {name for _, name in by_key[at:until]}
        at = until
        kept = {"keep_names": sorted(page & names), "keep_containers": sorted(page & containers)}
        jobs.append(GraphCollect(**kept, begin=begin, end=end))
    return jobs


def _key(name: str) -> str:
    return name.removeprefix("sha256:")
