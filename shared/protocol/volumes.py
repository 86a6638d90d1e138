"""Volumes: jobs of the API and the operator, which the engine answers; and those between the engine and who keeps the
data (in the words of Docker's volume plugins: VolumeDriver.Create, .Mount, .Unmount, .Remove).

A volume is what its name says, whichever the driver: names are unique.
"""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import UNSET, UnsetType, field

from shared.protocol.job import Data, Job, Record

__all__ = [
    "ANONYMOUS_LABEL",
    "DEFAULT_VOLUME_DRIVER",
    "IMAGE_VOLUME_DRIVER",
    "CreateVolume",
    "DeleteVolume",
    "HeldVolume",
    "InspectVolume",
    "ListHeldVolumes",
    "ListVolumes",
    "MakeVolume",
    "MeasureVolume",
    "MountVolume",
    "PopulateVolume",
    "PruneVolumes",
    "UnmakeVolume",
    "UnmountVolume",
    "Volume",
    "VolumeList",
    "VolumeUsage",
    "VolumesPruned",
]

DEFAULT_VOLUME_DRIVER = "local"
IMAGE_VOLUME_DRIVER = "image"  # of what `docker run --mount type=image` mounts: no volume that users have
ANONYMOUS_LABEL = "com.docker.volume.anonymous"
Labels = dict[str, str] | None


class VolumeUsage(Record):
    size: int = -1  # bytes; -1 where the driver cannot say
    ref_count: int = -1  # containers that have it


class Volume(Record):
    """API 1.51 Volume. ``created_at`` is RFC 3339 in whole seconds."""

    name: str
    driver: str
    mountpoint: str
    created_at: str
    labels: Labels
    scope: str
    options: Labels
    usage_data: VolumeUsage | UnsetType = UNSET


class CreateVolume(Job[Volume], frozen=True, tag="volume_create"):
    """Create a volume, or return the one of that name; without a name, one that is nobody's else.

    An existing volume keeps its labels. Errors: InvalidArgument (name, options), NotFound (no such driver), Conflict
    (there is one of that name with another driver or other options), NotImplementedByUs (a cluster volume).
    """

    ARGS: ClassVar[tuple[str, ...]] = ("name",)
    REPEATABLE: ClassVar[bool] = True
    name: str = ""
    driver: str = ""
    driver_opts: Labels = None
    labels: Labels = None
    cluster_volume_spec: dict[str, Any] | None = None


class InspectVolume(Job[Volume], frozen=True, tag="volume_inspect"):
    """Describe a volume. Errors: NotFound."""

    ARGS: ClassVar[tuple[str, ...]] = ("volume",)
    REPEATABLE: ClassVar[bool] = True
    volume: str


class VolumeList(Record):
    volumes: list[Volume]
    warnings: list[str] | None = None


class ListVolumes(Job[VolumeList], frozen=True, tag="volumes"):
    """List volumes by name; filters: dangling, driver, label, name. ``usage``: measure them, which takes a while.

    Errors: InvalidArgument (filters).
    """

    REPEATABLE: ClassVar[bool] = True
    filters: dict[str, list[str]] = field(default_factory=dict)
    usage: bool = False


class DeleteVolume(Job[None], frozen=True, tag="volume_delete"):
    """Remove a volume with its data. Errors: Conflict (a container has it), NotFound (unless ``force``)."""

    ARGS: ClassVar[tuple[str, ...]] = ("volume",)
    REPEATABLE: ClassVar[bool] = True
    volume: str
    force: bool = False


class VolumesPruned(Record):
    volumes_deleted: list[str]
    space_reclaimed: int


class PruneVolumes(Job[VolumesPruned], frozen=True, tag="volumes_prune"):
    """Remove the local volumes that no container has: the anonymous ones, or with the filter ``all`` every one.

    Those with options stay (their bytes are elsewhere). Filters: all, label, label!. Errors: InvalidArgument.

    Not repeatable: what the first asking removed, a second one could not tell of.
    """

    filters: dict[str, list[str]] = field(default_factory=dict)


# -- the engine and the driver. Every one of these is idempotent, and tells the whole error text.


class MakeVolume(Job[str], frozen=True, tag="volumedriver_create"):
    """Make the place of a volume's data and return its path. Data that is there already is kept.

    Errors: NotFound (no such driver), InvalidArgument (options).
    """

    REPEATABLE: ClassVar[bool] = True
    name: str
    driver: str
    options: Labels = None


class UnmakeVolume(Job[None], frozen=True, tag="volumedriver_remove"):
    """Remove a volume's data. Errors: Conflict (something else is mounted inside it)."""

    REPEATABLE: ClassVar[bool] = True
    name: str
    driver: str


class MountVolume(Job[dict[str, str]], frozen=True, tag="volumedriver_mount"):
    """Make a volume's data available; returns the path of each of ``subpaths`` ("" is all of it).

    Paths of subpaths are mounts made for that container. Errors: NotFound (no such subpath), InvalidArgument (it leads
    out of the volume), DockyardError (it cannot be mounted).
    """

    REPEATABLE: ClassVar[bool] = True
    name: str
    driver: str
    container: str
    options: Labels = None
    subpaths: list[str] = field(default_factory=list)


class UnmountVolume(Job[None], frozen=True, tag="volumedriver_unmount"):
    """Give back what `MountVolume` made for a container; ``last``: no other uses the volume, so unmount it too."""

    REPEATABLE: ClassVar[bool] = True
    name: str
    driver: str
    container: str
    last: bool


class PopulateVolume(Job[None], frozen=True, tag="volumedriver_populate"):
    """Give an empty volume what a container's image has at ``destination``, with its owner and mode: all or nothing.

    The volume is left mounted; the container must not be running. Errors: InvalidArgument (a file is there).
    """

    REPEATABLE: ClassVar[bool] = True
    name: str
    driver: str
    container: str
    destination: str
    options: Labels = None


class MeasureVolume(Job[int], frozen=True, tag="volumedriver_usage"):
    """Return the bytes of a volume's data."""

    REPEATABLE: ClassVar[bool] = True
    name: str
    driver: str


class HeldVolume(Data, frozen=True):
    name: str
    containers: list[str]  # for which `MountVolume` made something
    driver: str = ""  # empty: nothing of it is mounted but for containers


class ListHeldVolumes(Job[list[HeldVolume]], frozen=True, tag="volumedriver_list"):
    """List the volumes that are mounted or have something made for a container: the truth to reconcile with."""

    REPEATABLE: ClassVar[bool] = True
