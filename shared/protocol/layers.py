"""Jobs between the engine and the graphdriver: a container's own (topmost, writable) layer; what is to be kept."""

from __future__ import annotations

from typing import ClassVar

from shared.protocol.job import Data, Job
from shared.protocol.streams import Ticket

__all__ = [
    "COLLECTED_BY",
    "CreateLayer",
    "GraphCollect",
    "GraphStatus",
    "LayerUsage",
    "MountLayer",
    "ReadImageLayer",
    "RemoveLayer",
    "UnmountLayer",
    "MeasureLayer",
]


class CreateLayer(Job[dict[str, str]], frozen=True, tag="layer_create"):
    """Make a container's writable layer on top of ``chain_ids`` (bottom first). Idempotent.

    Returns where its parts are, as ContainerInspect's GraphDriver.Data has them.
    """

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
    """Measure what a container has written, and its whole tree, in bytes. Errors: NotFound."""

    REPEATABLE: ClassVar[bool] = True
    container: str


class GraphStatus(Job[dict[str, str]], frozen=True, tag="graph_status"):
    """Name the storage driver (``Driver``) and its facts, as `docker info` lists them."""

    REPEATABLE: ClassVar[bool] = True


COLLECTED_BY = 12  # hex digits: as many as a layer's directory is named by


class GraphCollect(Job[int], frozen=True, tag="graph_collect"):
    """engine → graphdriver: remove every blob, layer and container layer that is not named here; returns bytes freed.

    ``keep_names`` are the `Image.names` of all records of the engine, ``keep_containers`` the ids of all containers.
    What a load that is under way has written is kept.

    Where there are too many for one message there are several jobs, each for the names (without ``sha256:``) from
    ``begin`` on, up to but not including ``end`` (empty: to the last); they have `COLLECTED_BY` digits at most.
    """

    REPEATABLE: ClassVar[bool] = True
    keep_names: list[str]
    keep_containers: list[str]
    begin: str = ""
    end: str = ""


class ReadImageLayer(Job[Ticket], frozen=True, tag="graph_layer"):
    """engine → graphdriver: stream a layer's blob, unpacked."""

    REPEATABLE: ClassVar[bool] = True
    digest: str
