"""Volumes: create, list, inspect, delete, prune."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from services.engine import filters
from services.engine.lifecycle.volumes import create_volume, remove_volume
from services.engine.patterns import matches
from services.engine.volumes import VolumeRecord, VolumeStatus
from shared.bus.handlers import Handlers
from shared.protocol import (
    ANONYMOUS_LABEL,
    DEFAULT_VOLUME_DRIVER,
    Conflict,
    CreateVolume,
    DeleteVolume,
    InspectVolume,
    InvalidArgument,
    ListVolumes,
    NotFound,
    PruneVolumes,
    Volume,
    VolumeList,
    VolumesPruned,
    VolumeUsage,
)

if TYPE_CHECKING:
    from services.engine.engine import Engine

jobs: Handlers[Engine] = Handlers()

LIST_FILTERS = {"dangling", "driver", "label", "name"}
PRUNE_FILTERS = {"all", "label", "label!"}
TRUE, FALSE = ("1", "t", "true"), ("0", "f", "false")


@jobs.handles(CreateVolume)
async def create(engine: Engine, job: CreateVolume) -> Volume:
    return shown(await create_volume(engine, job))


@jobs.handles(InspectVolume)
def inspect(engine: Engine, job: InspectVolume) -> Volume:
    return shown(engine.volumes.find(job.volume))


@jobs.handles(DeleteVolume)
async def delete(engine: Engine, job: DeleteVolume) -> None:
    await remove_volume(engine, job.volume, force=job.force)


@jobs.handles(ListVolumes)
async def list_volumes(engine: Engine, job: ListVolumes) -> VolumeList:
    """List from memory alone, unless sizes are asked for."""
    filters.check_keys(job.filters, LIST_FILTERS)
    given, references = job.filters, engine.volumes.references()
    dangling = _boolean(given, "dangling")
    found = [
        record
        for record in engine.volumes
        if record.status is not VolumeStatus.CREATING
        and (dangling is None or dangling is not bool(references[record.name]))
        and record.driver in given.get("driver", [record.driver])
        and any(matches(pattern, record.name) for pattern in given.get("name", [record.name]))
        and filters.match_labels(given.get("label", []), record.labels or {})
    ]
    volumes = [shown(record) for record in sorted(found, key=lambda record: record.name)]
    if job.usage:
        for volume in volumes:
            volume.usage_data = VolumeUsage(size=await _size(engine, volume), ref_count=references[volume.name])
    return VolumeList(volumes=volumes)


def _boolean(given: dict[str, list[str]], key: str) -> bool | None:
    """Return a filter's one truth value, None where it is not given. Errors: InvalidArgument."""
    values = given.get(key, [])
    if not values:
        return None
    if len(values) > 1 or values[0].lower() not in TRUE + FALSE:
        raise InvalidArgument(f"invalid filter '{key}=[{' '.join(values)}]'")
    return values[0].lower() in TRUE


async def _size(engine: Engine, volume: Volume) -> int:
    """Measure a volume; one with options has its bytes elsewhere."""
    if volume.options:
        return -1
    return await engine.measuring.volume(volume.name, volume.driver)


@jobs.handles(PruneVolumes)
async def prune(engine: Engine, job: PruneVolumes) -> VolumesPruned:
    filters.check_keys(job.filters, PRUNE_FILTERS)
    everything = _boolean(job.filters, "all")
    pruned = VolumesPruned(volumes_deleted=[], space_reclaimed=0)
    for record in engine.volumes:
        labels = record.labels or {}
        if (
            record.status is VolumeStatus.READY
            and record.driver == DEFAULT_VOLUME_DRIVER
            and not record.options
            and (everything or ANONYMOUS_LABEL in labels)
            and filters.match_labels(job.filters.get("label", []), labels)
            and not any(filters.match_labels([text], labels) for text in job.filters.get("label!", []))
            and engine.volumes.unwanted(record.name)
        ):
            await _prune(engine, record, pruned)
    engine.events.append("volume", "prune", "", {"reclaimed": str(pruned.space_reclaimed)})
    return pruned


async def _prune(engine: Engine, record: VolumeRecord, pruned: VolumesPruned) -> None:
    """Remove one volume; if a container has taken it meanwhile, or somebody removed it, it is none of ours."""
    size = await _size(engine, shown(record))
    try:
        await remove_volume(engine, record.name)
    except (Conflict, NotFound):
        return
    pruned.volumes_deleted.append(record.name)
    pruned.space_reclaimed += size


def shown(record: VolumeRecord) -> Volume:
    """Return a volume as the API shows it."""
    return Volume(
        name=record.name,
        driver=record.driver,
        mountpoint=record.mountpoint,
        created_at=f"{datetime.fromtimestamp(record.created // 1_000_000_000, UTC):%Y-%m-%dT%H:%M:%SZ}",
        labels=record.labels,
        scope="local",
        options=record.options,
    )
