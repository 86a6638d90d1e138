"""Volumes: made, removed, and set right after a failure or a crash, each under the volume's own lock.

A container's lock may be held when a volume's is taken, never the other way round.
"""

from __future__ import annotations

import logging
import secrets
import time
from typing import TYPE_CHECKING

import msgspec

from services.engine.volumes import VolumeRecord, VolumeStatus, check_name
from shared.bus.context import asked_again, job_id
from shared.protocol import (
    ANONYMOUS_LABEL,
    DEFAULT_VOLUME_DRIVER,
    Conflict,
    CreateVolume,
    DeleteVolume,
    DockyardError,
    InvalidArgument,
    ListHeldVolumes,
    MakeVolume,
    NotFound,
    NotImplementedByUs,
    UnmakeVolume,
    UnmountVolume,
    encode_body,
)

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = [
    "LONG",
    "announce",
    "create_volume",
    "make_volume",
    "reconcile_volumes",
    "remove_volume",
    "settle_volumes",
    "unmount_volume",
]

LONG = 600.0  # seconds that copying or removing data may take
log = logging.getLogger("dockyard.engine")


# -- create


async def create_volume(engine: Engine, job: CreateVolume) -> VolumeRecord:
    """Create a volume, or return the one of that name; goes on if the caller goes away. Errors as `CreateVolume`."""
    if job.cluster_volume_spec is not None:
        raise NotImplementedByUs("cluster volumes are not implemented")
    if asked_again() and (made := _made_before(engine)) is not None:
        return made
    if not job.name:
        labels = {**(job.labels or {}), ANONYMOUS_LABEL: ""}
        job = msgspec.structs.replace(job, name=secrets.token_hex(32), labels=labels)
    check_name(job.name)
    return await engine.router.uninterrupted(make_volume(engine, job))


def _made_before(engine: Engine) -> VolumeRecord | None:
    """Return the volume that this job has made already."""
    mine = (volume for volume in engine.volumes if volume.created_by == job_id())
    return next((volume for volume in mine if volume.status is VolumeStatus.READY), None)


async def make_volume(engine: Engine, job: CreateVolume, *, provisional: bool = False) -> VolumeRecord:
    """As `create_volume`, for a job with a good name; ``provisional``: it is kept only if it is then announced."""
    async with engine.volumes.lock(job.name):
        record = engine.volumes.get(job.name)
        if record is not None and record.status is VolumeStatus.REMOVING:
            await _unmake(engine, record)
            record = None
        if record is not None and record.status is VolumeStatus.READY:
            _refuse_difference(record, job)
            return record
        record = VolumeRecord(
            name=job.name,
            driver=job.driver or DEFAULT_VOLUME_DRIVER,
            created=time.time_ns(),
            options=job.driver_opts or None,
            labels=job.labels,
            created_by=engine.asker(CreateVolume),
        )
        engine.volumes.put(record)
        await _make(engine, record)
        if not provisional:
            announce(engine, record)
        return record


async def _make(engine: Engine, record: VolumeRecord) -> None:
    """Have the place made. What the driver refuses leaves no record; after another failure it is taken up at boot."""
    job = MakeVolume(name=record.name, driver=record.driver, options=record.options)
    try:
        record.mountpoint = await engine.call(job)
    except (InvalidArgument, NotFound):
        engine.volumes.delete(record)
        raise


def announce(engine: Engine, record: VolumeRecord) -> None:
    """Keep a volume that has been made."""
    record.status = VolumeStatus.READY
    with engine.store.transaction():
        engine.volumes.put(record)
        engine.events.append("volume", "create", record.name, {"driver": record.driver})


def _refuse_difference(record: VolumeRecord, job: CreateVolume) -> None:
    if job.driver not in ("", record.driver):
        raise Conflict(
            f"create {job.name}: driver '{record.driver}' already has volume '{job.name}': volume name must be unique"
        )
    if job.driver_opts and job.driver_opts != (record.options or {}):
        raise Conflict(
            f"create {job.name}: driver '{record.driver}' already has volume '{job.name}' with other options: volume "
            "name must be unique"
        )


# -- remove


async def remove_volume(engine: Engine, name: str, *, force: bool = False) -> None:
    """Remove a volume; goes on if the caller goes away. Errors as `DeleteVolume`."""
    try:
        engine.volumes.find(name)
    except NotFound:
        if force:
            return
        raise
    await engine.router.uninterrupted(_remove(engine, name))


async def _remove(engine: Engine, name: str) -> None:
    async with engine.volumes.lock(name):
        record = engine.volumes.find(name)
        if not engine.volumes.unwanted(name):
            users = ", ".join(engine.volumes.users(name))
            raise Conflict(f"remove {name}: volume is in use - [{users}]")
        record.removed_by = engine.asker(DeleteVolume)
        await _unmake(engine, record)


async def _unmake(engine: Engine, record: VolumeRecord) -> None:
    """Remove the data, then the record; the caller holds the lock. What fails is taken up again at boot."""
    before = record.status
    if before is VolumeStatus.READY:
        record.status = VolumeStatus.REMOVING
        engine.volumes.put(record)
    try:
        await engine.call(UnmakeVolume(name=record.name, driver=record.driver), timeout=LONG)
    except Conflict:  # refused, and nothing done
        record.status = before
        engine.volumes.put(record)
        raise
    with engine.store.transaction():
        engine.volumes.delete(record)
        if record.removed_by:
            engine.store.put_outcome(record.removed_by, encode_body(None))
        if before is not VolumeStatus.CREATING:
            engine.events.append("volume", "destroy", record.name, {"driver": record.driver})


# -- after a failure or a crash


async def settle_volumes(engine: Engine, names: list[str]) -> None:
    """Bring volumes that are between two states to one of them; what fails is tried again at boot."""
    for name in names:
        async with engine.volumes.lock(name):
            try:
                await _settle(engine, name)
            except DockyardError as error:
                log.error("volume not settled name=%s error=%s", name, error)


async def _settle(engine: Engine, name: str) -> None:
    record = engine.volumes.get(name)
    if record is None or record.status is VolumeStatus.READY or not engine.volumes.unwanted(name):
        return
    if record.status is VolumeStatus.CREATING and not record.anonymous:
        await _make(engine, record)
        announce(engine, record)
    else:
        await _unmake(engine, record)


async def reconcile_volumes(engine: Engine) -> None:
    """Unmount what no container uses, and go on with what was interrupted."""
    for held in await engine.call(ListHeldVolumes()):
        volume = engine.volumes.get(held.name)
        driver = held.driver or (volume.driver if volume is not None else DEFAULT_VOLUME_DRIVER)
        for container_id in held.containers or [""]:
            container = engine.containers.by_id(container_id)
            if container_id in engine.quarantine:
                continue
            async with engine.volumes.lock(held.name):
                if container is None or not (container.record.running or container.record.unsettled):
                    await unmount_volume(engine, held.name, driver, container_id)
    await settle_volumes(engine, [volume.name for volume in engine.volumes])


async def unmount_volume(engine: Engine, name: str, driver: str, container_id: str) -> None:
    """Give back what a container had of a volume, and unmount it with the last; the caller holds the lock."""
    last = not engine.volumes.in_use(name, besides=container_id)
    await engine.call(UnmountVolume(name=name, driver=driver, container=container_id, last=last))
