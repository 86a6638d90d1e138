"""Mounts: what a container is to have mounted, from all the ways in which the API can ask for it.

| asked for by           | what                                                 | if the destination is taken  |
|------------------------|------------------------------------------------------|------------------------------|
| HostConfig.VolumesFrom | what the named containers have, but no tmpfs         | the later one wins           |
| HostConfig.Binds       | binds and volumes, as text (`mountspecs`)            | Duplicate mount point        |
| HostConfig.Mounts      | these, tmpfs and images, as objects (`mountspecs`)   | Duplicate mount point        |
| Config.Volumes         | anonymous volumes; the image's too                   | it stays as it is            |
| HostConfig.Tmpfs       | only checked here: the execdriver reads it itself    | Duplicate mount point        |
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from services.engine.mountspecs import (
    PROPAGATIONS,
    Planned,
    check_destination,
    clean,
    plan_bind,
    plan_mount,
    plan_volume,
    valid_mode,
)
from services.engine.volumes import check_name
from shared.protocol import (
    ContainerConfig,
    CreateVolume,
    HostConfig,
    InvalidArgument,
    Mount,
    MountPoint,
    NotFound,
)

if TYPE_CHECKING:
    from services.engine.container import Container
    from services.engine.engine import Engine

__all__ = ["plan_mounts", "shown"]


async def plan_mounts(
    engine: Engine, config: ContainerConfig, host_config: HostConfig, *, read_only_non_recursive: bool = False
) -> list[Planned]:
    """Resolve all that is asked for; nothing is made yet. ``read_only_non_recursive``: as in `CreateContainer`.

    Errors: InvalidArgument, NotImplementedByUs.
    """
    driver = host_config.volume_driver
    asked = [plan_bind(text, driver, non_recursive=read_only_non_recursive) for text in host_config.binds or []]
    asked += [_with_image(engine, plan_mount(mount)) for mount in host_config.mounts or []]
    if host_config.mounts:
        await asyncio.to_thread(_check_sources, host_config.mounts)
    for target in host_config.tmpfs or {}:
        check_destination(target)
    taken = {clean(target) for target in host_config.tmpfs or {}}
    for planned in asked:
        if planned.volume is not None:
            check_name(planned.volume.name)
        if planned.point.destination in taken:
            raise InvalidArgument(f"Duplicate mount point: {planned.point.destination}")
        taken.add(planned.point.destination)
    found = {planned.point.destination: planned for planned in _volumes_from(engine, host_config.volumes_from or [])}
    found |= {planned.point.destination: planned for planned in asked}
    for planned in _anonymous(config, host_config.volume_driver):
        if planned.point.destination not in found.keys() | taken:
            found[planned.point.destination] = planned
    return list(found.values())


def _with_image(engine: Engine, planned: Planned) -> Planned:
    """Say which image it is that is to be mounted. One that is missing is no 404 here: at that, the CLI would pull the
    container's. Errors: InvalidArgument."""
    if planned.point.type != "image":
        return planned
    try:
        image = engine.images.find(planned.point.image)
    except NotFound as error:
        raise InvalidArgument(error.message) from None
    return Planned(msgspec.structs.replace(planned.point, name=image.id.removeprefix("sha256:")))


def _check_sources(mounts: list[Mount]) -> None:
    """Errors: InvalidArgument (the source of a bind that was asked for as an object is missing). Looks at the disk."""
    for mount in mounts:
        made = mount.bind_options is not None and mount.bind_options.create_mountpoint
        if mount.type == "bind" and not made and not os.access(mount.source, os.F_OK):
            raise InvalidArgument(
                f'invalid mount config for type "bind": bind source path does not exist: {mount.source}'
            )


def _anonymous(config: ContainerConfig, volume_driver: str) -> Iterator[Planned]:
    for target in config.volumes or {}:
        destination = clean(f"/{target}")  # some images name them without the slash
        check_destination(destination)
        point = MountPoint(type="volume", destination=destination, populate=True)
        yield plan_volume(point, CreateVolume(driver=volume_driver))


def _volumes_from(engine: Engine, specs: list[str]) -> Iterator[Planned]:
    for spec in specs:
        ref, _, mode = spec.partition(":")
        if not spec:
            raise InvalidArgument("volumes-from specification cannot be an empty string")
        words = set(mode.split(","))
        if not valid_mode(mode) or words & {*PROPAGATIONS, "nocopy"}:
            raise InvalidArgument(f"invalid mode: {mode}")
        for point in _find(engine, ref).record.mounts:
            if point.type == "tmpfs":
                continue
            writable = point.writable and "ro" not in words
            copy = msgspec.structs.replace(point, mode="", writable=writable, populate=False)
            yield Planned(copy, CreateVolume(name=copy.name, driver=copy.driver) if copy.type == "volume" else None)


def _find(engine: Engine, ref: str) -> Container:
    """A missing container is no 404 here: at that, the CLI would pull the image."""
    try:
        return engine.containers.find(ref)
    except NotFound as error:
        raise InvalidArgument(error.message) from None


def shown(point: MountPoint) -> dict[str, Any]:
    """Return a mount as inspect and list show it (API 1.51 MountPoint)."""
    view = {
        "Type": point.type,
        "Name": point.image or point.name,
        "Source": point.source,
        "Destination": point.destination,
        "Driver": "" if point.image else point.driver,
        "Mode": point.mode,
        "RW": point.writable,
        "Propagation": point.propagation,
    }
    return {key: value for key, value in view.items() if value != "" or key not in ("Name", "Driver")}
