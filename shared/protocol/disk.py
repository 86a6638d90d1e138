"""What is on disk of images, containers and volumes."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import field

from shared.protocol.container_views import ContainerSummary
from shared.protocol.images import ImageSummary
from shared.protocol.job import Job, Record
from shared.protocol.volumes import Volume

__all__ = ["DISK_TYPES", "DiskUsage", "MeasureDisk"]

DISK_TYPES = ("container", "image", "volume", "build-cache")


class DiskUsage(Record):
    """API 1.51 SystemDataUsageResponse; sizes in bytes, None for what was not asked for.

    ``layers_size`` counts each layer once, however many images have it.
    """

    layers_size: int = 0
    images: list[ImageSummary] | None = None
    containers: list[ContainerSummary] | None = None
    volumes: list[Volume] | None = None
    build_cache: list[Any] | None = None


class MeasureDisk(Job[DiskUsage], frozen=True, tag="disk_usage"):
    """Measure what is on disk, which takes a while. ``types``: some of `DISK_TYPES`, none for all.

    Errors: InvalidArgument (an unknown type).
    """

    ARGS: ClassVar[tuple[str, ...]] = ("types",)
    REPEATABLE: ClassVar[bool] = True
    types: list[str] = field(default_factory=list)
