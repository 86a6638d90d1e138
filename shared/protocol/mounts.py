"""Mounts: as the API asks for them (`Mount`), and as the engine has resolved them (`MountPoint`)."""

from __future__ import annotations

from typing import Any

from msgspec import field

from shared.protocol.job import Data, Record

__all__ = [
    "BindOptions",
    "DriverConfig",
    "ImageOptions",
    "Mount",
    "MountPoint",
    "TmpfsOptions",
    "VolumeOptions",
]


class BindOptions(Record, omit_defaults=True):
    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class DriverConfig(Record, omit_defaults=True):
    name: str = ""
    options: dict[str, str] | None = None


class VolumeOptions(Record, omit_defaults=True):
    no_copy: bool = False
    labels: dict[str, str] | None = None
    driver_config: DriverConfig | None = None
    subpath: str = ""


class ImageOptions(Record, omit_defaults=True):
    subpath: str = ""


class TmpfsOptions(Record, omit_defaults=True):
    """``mode`` is a number, 0o755 and not "0755"; ``options`` is a list of [flag] and [key, value]."""

    size_bytes: int = 0
    mode: int = 0
    options: list[list[str]] | None = None


class Mount(Record, omit_defaults=True):
    """An entry of HostConfig.Mounts."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    image_options: ImageOptions | None = None
    tmpfs_options: TmpfsOptions | None = None
    cluster_options: dict[str, Any] | None = None


class MountPoint(Data, frozen=True):
    """One mount of a container, whatever it was asked for with: all that is to be known when it is made."""

    type: str  # bind, volume, tmpfs, image
    destination: str  # absolute and clean
    source: str = ""  # on the host: a bind's own, a volume's data, an image's files; none of a tmpfs
    name: str = ""  # of a volume; of an image, which is mounted as one: its id without the algorithm
    driver: str = ""  # of a volume; `IMAGE_VOLUME_DRIVER`
    image: str = ""  # as it was asked for
    mode: str = ""  # the words after the second colon, as they were given
    writable: bool = True
    propagation: str = ""  # of a bind: private, rprivate, shared, rshared, slave, rslave
    options: list[str] = field(default_factory=list)  # of a tmpfs, for mount(2)
    anonymous: bool = False  # the volume was named for this container: it goes where its volumes are to go too
    populate: bool = False  # at create, the volume, if it is empty, gets what the image has at the destination
    subpath: str = ""  # inside the volume or the image
    create_source: bool = False  # where a bind's source is missing, a directory is made
    recursive: bool = True  # what is mounted below the source comes with it
    recursive_read_only: bool | None = None  # True: or not at all; None: where the kernel can; False: the top only
