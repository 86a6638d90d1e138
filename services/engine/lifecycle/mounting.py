"""Mounting: a container's volumes, from its creation over starts and ends to its removal.

Volumes that it names are there from then on; those that are named for it come and go with it. An image that it mounts
is a volume to the driver, and has no record as such.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from services.engine.container import Container
from services.engine.lifecycle.volumes import LONG, announce, make_volume, settle_volumes, unmount_volume
from services.engine.mountspecs import Planned
from services.engine.record import ContainerRecord
from services.engine.volumes import VolumeStatus
from shared.protocol import InvalidArgument, MountPoint, MountVolume, NotFound, PopulateVolume

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = [
    "condemn_volumes",
    "confirm_volumes",
    "mount_volumes",
    "populate_volumes",
    "provide_volumes",
    "tell_unmounted",
    "unmount_volumes",
]


# -- created


@asynccontextmanager
async def provide_volumes(engine: Engine, container: Container, planned: list[Planned]) -> AsyncIterator[None]:
    """Make the volumes that a new container is to have, and set its mounts. Where that, or the body, fails, the
    anonymous ones are removed again. The body commits them with `confirm_volumes`."""
    record = container.record
    with engine.volumes.expected(entry.volume.name for entry in planned if entry.volume):
        try:
            record.mounts = [await _provide(engine, entry) for entry in planned]
            yield
        except BaseException:
            engine.router.spawn(settle_volumes(engine, [e.point.name for e in planned if e.point.anonymous]))
            raise


async def _provide(engine: Engine, planned: Planned) -> MountPoint:
    if planned.volume is None:
        return planned.point
    try:
        volume = await make_volume(engine, planned.volume, provisional=planned.point.anonymous)
    except NotFound as error:  # no 404 here: at that, the CLI would pull the image
        raise InvalidArgument(error.message) from None
    return msgspec.structs.replace(planned.point, source=volume.mountpoint, driver=volume.driver)


async def populate_volumes(engine: Engine, container: Container) -> None:
    """Give each volume that is empty what the image has in its place."""
    for point in container.record.mounts:
        if point.populate:
            volume = engine.volumes.get(point.name)
            assert volume is not None
            async with engine.volumes.lock(point.name):
                job = PopulateVolume(
                    name=volume.name,
                    driver=volume.driver,
                    options=volume.options,
                    container=container.id,
                    destination=point.destination,
                )
                try:
                    await engine.call(job, timeout=LONG)
                finally:
                    await unmount_volume(engine, volume.name, volume.driver, container.id)


def confirm_volumes(engine: Engine, record: ContainerRecord) -> None:
    """Keep a new container's anonymous volumes: part of the transaction that records the container."""
    for point in record.mounts:
        volume = engine.volumes.get(point.name)
        if volume is not None and volume.status is VolumeStatus.CREATING:
            announce(engine, volume)


# -- started and ended


async def mount_volumes(engine: Engine, container: Container) -> list[MountPoint]:
    """Mount a container's volumes and return its mounts as they are on the host. The caller holds its lock."""
    container.volumes_given_back.clear()
    record = container.record
    names = {point.name for point in record.mounts if point.name}
    paths = {name: await _mount(engine, record, name) for name in names}
    if names:
        _tell_mounted(engine, record)
    return [
        msgspec.structs.replace(point, source=paths[point.name][point.subpath]) if point.name else point
        for point in record.mounts
    ]


async def _mount(engine: Engine, record: ContainerRecord, name: str) -> dict[str, str]:
    points = [point for point in record.mounts if point.name == name]
    async with engine.volumes.lock(name):
        job = MountVolume(
            name=name,
            driver=points[0].driver,
            options=_options(engine, points[0]),
            container=record.id,
            subpaths=sorted({point.subpath for point in points}),
        )
        return await engine.call(job)


def _options(engine: Engine, point: MountPoint) -> dict[str, str] | None:
    if point.type == "image":
        return {"layers": " ".join(engine.images.of_container(f"sha256:{point.name}").chain_ids)}
    return engine.volumes.find(point.name).options


def _tell_mounted(engine: Engine, record: ContainerRecord) -> None:
    record.volumes_mounted = True
    with engine.store.transaction():
        engine.store.put_container(record)
        for point in record.mounts:
            if point.type == "volume":
                attributes = {
                    "driver": point.driver,
                    "container": record.id,
                    "destination": point.destination,
                    "read/write": str(point.writable).lower(),
                    "propagation": point.propagation,
                }
                engine.events.append("volume", "mount", point.name, attributes)


async def unmount_volumes(engine: Engine, container: Container) -> None:
    """Give back what a container's start made of its volumes; unmount those that no other uses. Idempotent."""
    for name, driver in {(point.name, point.driver) for point in container.record.mounts if point.name}:
        async with engine.volumes.lock(name):
            await unmount_volume(engine, name, driver, container.id)
            container.volumes_given_back.add(name)


def tell_unmounted(engine: Engine, record: ContainerRecord) -> None:
    """Tell of it once: part of the transaction that records that all has been given back."""
    if record.volumes_mounted:
        record.volumes_mounted = False
        for point in record.mounts:
            if point.type == "volume":
                attributes = {"driver": point.driver, "container": record.id}
                engine.events.append("volume", "unmount", point.name, attributes)


# -- removed


def condemn_volumes(engine: Engine, record: ContainerRecord) -> list[str]:
    """Mark a container's anonymous volumes that no other has: part of the transaction that deletes the container."""
    condemned = []
    for name in {point.name for point in record.mounts if point.anonymous}:
        volume = engine.volumes.get(name)
        if volume is not None and engine.volumes.unwanted(name, besides=record.id):
            volume.status = VolumeStatus.REMOVING
            engine.volumes.put(volume)
            condemned.append(name)
    return condemned
