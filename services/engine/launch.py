"""Launch: what a start hands to the drivers, with references to the host and to other containers as they are now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from services.engine import links
from services.engine.container import Container
from services.engine.logdrivers import log_policy
from services.engine.record import ContainerRecord, Status
from shared.protocol import (
    Conflict,
    HostConfig,
    Interface,
    InvalidArgument,
    RuntimeStart,
    joined_container,
)

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["environment", "join", "runtime_start"]

JOINABLE = {"network_mode": "network", "pid_mode": "PID", "ipc_mode": "IPC"}


def join(engine: Engine, record: ContainerRecord) -> HostConfig:
    """Return the host config with ids of the containers to join; who joins a network has its host name too.

    Errors: NotFound, Conflict (it does not run, or is the container itself).
    """
    resolved = msgspec.structs.replace(record.host_config)
    for field, title in JOINABLE.items():
        if ref := joined_container(getattr(resolved, field)):
            donor = _donor(engine, record, ref, title)
            setattr(resolved, field, f"container:{donor.id}")
            if field == "network_mode":
                record.config.hostname = donor.record.config.hostname
                record.config.domainname = donor.record.config.domainname
    return resolved


def _donor(engine: Engine, record: ContainerRecord, ref: str, title: str) -> Container:
    donor = engine.containers.find(ref)
    if donor.id == record.id:
        raise Conflict(f"cannot join own {title} namespace")
    if donor.record.status is Status.RESTARTING:
        raise Conflict(f"Container {donor.id} is restarting, wait until the container is running")
    if not donor.record.running:
        raise Conflict(f"cannot join {title} of a non running container: {donor.id}")
    return donor


def runtime_start(
    engine: Engine, record: ContainerRecord, host_config: HostConfig, rootfs: str, interface: Interface
) -> RuntimeStart:
    """Put together what the execdriver is told, all but the mounts.

    Errors: Conflict (a linked container does not run), InvalidArgument.
    """
    return RuntimeStart(
        container=record.id,
        generation=record.generation,
        name=record.name,
        rootfs=rootfs,
        directory=str(engine.config.root / "containers" / record.id),
        args=record.args,
        config=msgspec.structs.replace(record.config, env=environment(engine, record)),
        host_config=msgspec.structs.replace(host_config, extra_hosts=_hosts(engine, record)),
        interface=interface,
        log=log_policy(record),
        addresses=record.addresses,
    )


def environment(engine: Engine, record: ContainerRecord, *, links_run: bool = True) -> list[str]:
    """Return a container's variables with those of its links, which win over none of its own. Errors: Conflict.

    Without ``links_run`` it is no error that a container that is linked does not run.
    """
    own = record.config.env or []
    given = {entry.partition("=")[0] for entry in own}
    linked = links.environment(engine, record, all_run=links_run)
    return [entry for entry in linked if entry.partition("=")[0] not in given] + own


def _hosts(engine: Engine, record: ContainerRecord) -> list[str]:
    """Return ExtraHosts with the host's own address in them, and the linked containers."""
    own = [_with_gateway(engine, entry) for entry in record.host_config.extra_hosts or []]
    return own + links.hosts(engine, record)


def _with_gateway(engine: Engine, entry: str) -> str:
    if not entry.endswith("host-gateway"):
        return entry
    if engine.bridge is None or not engine.bridge.address:
        raise InvalidArgument("unable to derive the IP value for host-gateway")
    return entry.removesuffix("host-gateway") + engine.bridge.address.partition("/")[0]
