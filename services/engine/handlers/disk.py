"""What is on disk: `docker system df`."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from services.engine.disk import TIMEOUT, layers_size
from services.engine.handlers.containers import measured
from services.engine.handlers.images import list_images
from services.engine.handlers.volumes import list_volumes
from shared.bus.handlers import Handlers
from shared.protocol import (
    DISK_TYPES,
    BuildCache,
    DiskUsage,
    InvalidArgument,
    ListBuildCache,
    ListContainers,
    ListImages,
    ListVolumes,
    MeasureDisk,
)

if TYPE_CHECKING:
    from services.engine.engine import Engine

jobs: Handlers[Engine] = Handlers()


@jobs.handles(MeasureDisk)
async def disk_usage(engine: Engine, job: MeasureDisk) -> DiskUsage:
    wanted = set(job.types) or set(DISK_TYPES)
    for kind in sorted(wanted - set(DISK_TYPES)):
        raise InvalidArgument(f"unknown object type: {kind}")
    usage = DiskUsage()
    if "image" in wanted:
        _images(engine, usage)
    if "container" in wanted:
        usage.containers = await measured(engine, ListContainers(all=True))
    if "volume" in wanted:
        usage.volumes = (await list_volumes(engine, ListVolumes(usage=True))).volumes
    if "build-cache" in wanted:
        caches: list[BuildCache] = await engine.call(ListBuildCache(), timeout=TIMEOUT)
        usage.build_cache = list(caches)
    return usage


def _images(engine: Engine, usage: DiskUsage) -> None:
    usage.layers_size = layers_size(engine.images)
    usage.images = list_images(engine, ListImages(shared_size=True))
    users = Counter(container.record.image for container in engine.containers)
    for image in usage.images:
        image.containers = users[image.id]
