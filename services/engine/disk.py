"""Disk: sizes of layers and volumes. Those that are measured are so by the graphdriver, few at the same time.

A walk through a large tree takes its time; more than `AT_ONCE` of them would only slow each other and the rest.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from shared.protocol import ContainerSummary, Image, ImageSummary, MeasureLayer, MeasureVolume, NotFound

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["TIMEOUT", "Measuring", "add_sizes", "count_shared", "layers_size"]

AT_ONCE = 2
TIMEOUT = 600.0  # seconds for one tree


class Measuring:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def container(self, container_id: str) -> tuple[int, int]:
        """Return the bytes of a container's writable layer, and of its whole root filesystem."""
        async with self._turn:
            usage = await self._engine.call(MeasureLayer(container=container_id), timeout=TIMEOUT)
        return usage.rw, usage.root

    async def volume(self, name: str, driver: str) -> int:
        async with self._turn:
            return await self._engine.call(MeasureVolume(name=name, driver=driver), timeout=TIMEOUT)


async def add_sizes(engine: Engine, summaries: Iterable[ContainerSummary]) -> None:
    """Measure containers for a list; one that was removed meanwhile has none."""
    for summary in summaries:
        try:
            summary.size_rw, summary.size_root_fs = await engine.sizes(summary.id)
        except NotFound:
            summary.size_rw, summary.size_root_fs = 0, 0


def layers_size(images: Iterable[Image]) -> int:
    """Return the bytes of all layers, each counted once."""
    sizes = {chain: size for image in images for chain, size in zip(image.chain_ids, image.layer_sizes, strict=True)}
    return sum(sizes.values())


def count_shared(images: Iterable[Image], summaries: Iterable[ImageSummary]) -> None:
    """Say of each image how many bytes are in layers that another has too."""
    known = {image.id: image for image in images}
    users = Counter(chain for image in known.values() for chain in image.chain_ids)
    for summary in summaries:
        image = known[summary.id]
        pairs = zip(image.chain_ids, image.layer_sizes, strict=True)
        summary.shared_size = sum(size for chain, size in pairs if users[chain] > 1)
