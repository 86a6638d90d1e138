"""Update: new limits, or another restart policy, for a container that exists; in force at once if it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from services.engine.container import Container
from services.engine.hostconfig import check_restart_policy
from services.engine.record import Status
from services.engine.resources import check_resources
from services.engine.sysinfo import sysinfo
from shared.protocol import (
    Conflict,
    ContainerUpdated,
    DockyardError,
    HostConfig,
    InvalidArgument,
    NotFound,
    RestartPolicy,
    RuntimeUpdate,
    UpdateContainer,
)

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["update"]

UPDATABLE = (
    "memory", "memory_swap", "memory_reservation", "cpu_shares", "cpu_period", "cpu_quota", "cpu_realtime_period",
    "cpu_realtime_runtime", "nano_cpus", "cpuset_cpus", "cpuset_mems", "pids_limit", "blkio_weight",
    "blkio_weight_device", "blkio_device_read_bps", "blkio_device_write_bps", "blkio_device_read_iops",
    "blkio_device_write_iops",
)  # fmt: skip


async def update(engine: Engine, container: Container, job: UpdateContainer) -> ContainerUpdated:
    """Check, then change; goes on if the caller goes away. Errors as `UpdateContainer`."""
    changes = msgspec.structs.replace(job.host_config)
    _refuse_what_stays(changes)
    if changes.pids_limit is not None:
        changes.pids_limit = max(0, changes.pids_limit)
    warnings = check_resources(changes, sysinfo(), update=True)
    if job.restart_policy is not None:
        check_restart_policy(job.restart_policy, auto_remove=False)
    updated = ContainerUpdated(warnings=warnings)
    await engine.router.uninterrupted(_update(engine, container, changes, job.restart_policy, updated))
    return updated


def _refuse_what_stays(changes: HostConfig) -> None:
    default = HostConfig()
    for field in msgspec.structs.fields(HostConfig):
        if field.name not in UPDATABLE and getattr(changes, field.name) != getattr(default, field.name):
            raise InvalidArgument(f"{field.encode_name} cannot be updated")


async def _update(
    engine: Engine,
    container: Container,
    changes: HostConfig,
    policy: RestartPolicy | None,
    updated: ContainerUpdated,
) -> None:
    record = container.record
    async with container.lock:
        try:
            if record.status is Status.REMOVING:
                raise Conflict('container is marked for removal and cannot be "update"')
            merged = _merge(record.host_config, changes)
            if policy is not None:
                if record.host_config.auto_remove and policy.name != "no":
                    why = "Restart policy cannot be updated because AutoRemove is enabled for the container"
                    raise Conflict(why)
                merged.restart_policy = policy
            if record.running:
                await _apply(engine, container, merged)
        except DockyardError as error:
            raise type(error)(f"Cannot update container {record.id}: {error.message}") from None
        record.host_config = merged
        with engine.store.transaction():
            engine.save(container, "update")
            engine.done(UpdateContainer, updated)


async def _apply(engine: Engine, container: Container, limits: HostConfig) -> None:
    try:
        await engine.call(RuntimeUpdate(container=container.id, host_config=limits))
    except NotFound:
        return  # it is about to be known that it has ended; the next start has the limits


def _merge(present: HostConfig, changes: HostConfig) -> HostConfig:
    """Lay what was given over what there is. Errors: Conflict (the two do not go together)."""
    _check_conflicts(present, changes)
    given = {name: value for name in UPDATABLE if (value := getattr(changes, name)) not in (0, "", None)}
    if changes.pids_limit is not None:
        given["pids_limit"] = changes.pids_limit
    if changes.memory and not changes.memory_swap and not present.memory_swap:
        given["memory_swap"] = 2 * changes.memory
    return msgspec.structs.replace(present, **given)


def _check_conflicts(present: HostConfig, changes: HostConfig) -> None:
    for wrong, text in (
        (changes.nano_cpus and present.cpu_period, "Nano CPUs cannot be updated as CPU Period has already been set"),
        (changes.nano_cpus and present.cpu_quota, "Nano CPUs cannot be updated as CPU Quota has already been set"),
        (changes.cpu_period and present.nano_cpus, "CPU Period cannot be updated as NanoCPUs has already been set"),
        (changes.cpu_quota and present.nano_cpus, "CPU Quota cannot be updated as NanoCPUs has already been set"),
    ):
        if wrong:
            raise Conflict(f"Conflicting options: {text}")
    if not changes.memory_swap and 0 < present.memory_swap < changes.memory:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    memory = changes.memory or present.memory
    if changes.memory_swap > 0 and not memory:
        raise Conflict("You should always set the Memory limit when using Memoryswap limit, see usage")
    if 0 < changes.memory_swap < memory:
        raise Conflict("Minimum memoryswap limit should be larger than memory limit, see usage")
