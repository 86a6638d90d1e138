"""Jobs between the engine and the graphdriver about a container's own (topmost, writable) layer."""

from __future__ import annotations

from typing import ClassVar

from shared.protocol.job import Data, Job

__all__ = ["CreateLayer", "GraphStatus", "LayerUsage", "MountLayer", "RemoveLayer", "UnmountLayer", "MeasureLayer"]


class CreateLayer(Job[None], frozen=True, tag="layer_create"):
    """Make a container's writable layer on top of ``chain_ids`` (bottom first). Idempotent."""

    REPEATABLE: ClassVar[bool] = True
    container: str
    chain_ids: list[str]


class MountLayer(Job[str], frozen=True, tag="layer_mount"):
    """Mount a container's root filesystem and return its path. Idempotent. Errors: NotFound (no such layer)."""

    REPEATABLE: ClassVar[bool] = True
    container: str


class UnmountLayer(Job[None], frozen=True, tag="layer_unmount"):
    """Unmount it. Idempotent."""

    REPEATABLE: ClassVar[bool] = True
    container: str


class RemoveLayer(Job[None], frozen=True, tag="layer_remove"):
    """Unmount and remove a container's writable layer. Idempotent."""

    REPEATABLE: ClassVar[bool] = True
    container: str


class LayerUsage(Data, frozen=True):
    """Sizes in bytes."""

    rw: int
    root: int


class MeasureLayer(Job[LayerUsage], frozen=True, tag="layer_usage"):
    REPEATABLE: ClassVar[bool] = True
    container: str


class GraphStatus(Job[dict[str, str]], frozen=True, tag="graph_status"):
    """Name the storage driver (``Driver``) and its facts, as `docker info` lists them."""

    REPEATABLE: ClassVar[bool] = True
