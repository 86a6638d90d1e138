"""Networks: made, removed; containers connected and disconnected, be they running or not.

The netdriver is asked first, the record comes second; what is lost between the two, the next `init_networkdriver` sets
right: the netdriver removes what no record has.
"""

from __future__ import annotations

import logging
import secrets
import time
from typing import TYPE_CHECKING

from services.engine.container import Container
from services.engine.endpoints import allocate_interface, allocation, check_settings
from services.engine.lifecycle.connecting import tell
from services.engine.lifecycle.holding import give_back
from services.engine.networkconfigs import check_config_only, configured
from services.engine.networks import PREDEFINED, NetworkRecord
from services.engine.networkspecs import network_asked, warning
from services.engine.record import ContainerRecord, Endpoint, Status
from shared.protocol import (
    BridgeNetwork,
    Conflict,
    ConnectNetwork,
    CreateNetwork,
    DeleteNetwork,
    DisconnectNetwork,
    DockyardError,
    EndpointSettings,
    InvalidArgument,
    ListInterfaces,
    MakeNetwork,
    NetworkCreated,
    PermissionDenied,
    ReleaseInterface,
    RuntimeSetAddresses,
    RuntimeSetResolver,
    UnmakeNetwork,
    joined_container,
)

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = [
    "connect",
    "create_network",
    "disconnect",
    "refresh_names",
    "remove_network",
    "restore_interfaces",
]

log = logging.getLogger("dockyard.engine")


async def create_network(engine: Engine, job: CreateNetwork) -> NetworkCreated:
    """Create a network; goes on if the caller goes away. Errors as `CreateNetwork`."""
    return await engine.router.uninterrupted(_create(engine, job))


async def _create(engine: Engine, asked: CreateNetwork) -> NetworkCreated:
    async with engine.networks.lock:
        if asked.config_only:
            check_config_only(asked)
        job = configured(engine.networks, asked)
        network_id = secrets.token_hex(32)
        wanted = None if job.config_only else network_asked(job, network_id)
        if engine.networks.id_of(job.name):
            raise Conflict(f"network with name {job.name} already exists")
        network: BridgeNetwork | None = None
        if wanted is not None:
            network = await engine.call(MakeNetwork(network=wanted))
        record = NetworkRecord(
            id=network_id,
            name=job.name,
            created=time.time_ns(),
            driver=network.driver if network else "null",
            network=network,
            ipam=job.ipam,
            attachable=job.attachable,
            options=job.options,
            labels=job.labels,
            config=job if job.config_only else None,
            config_from=job.config_from,
        )
        with engine.store.transaction():
            engine.networks.put(record)
            _tell(engine, record, "create")
            created = NetworkCreated(id=record.id, warning=warning(job))
            engine.done(CreateNetwork, created)
    return created


async def remove_network(engine: Engine, record: NetworkRecord) -> None:
    """Remove a network. Errors: PermissionDenied (predefined, in use by a container that runs, or by a network)."""
    if record.name in PREDEFINED:
        raise PermissionDenied(f"{record.name} is a pre-defined network and cannot be removed")
    await engine.router.uninterrupted(_remove(engine, record))


async def _remove(engine: Engine, record: NetworkRecord) -> None:
    for container in engine.networks.members(engine.containers, record):
        if container.record.unsettled and not container.record.running:
            async with container.lock:  # it has ended, and is about to leave
                if container.record.unsettled and not container.record.running:
                    await give_back(engine, container)
    async with engine.networks.lock:
        if engine.networks.get(record.id) is None:
            return
        active = [
            f'name:"{c.record.name}" id:"{c.id[:12]}"'
            for c in engine.networks.members(engine.containers, record)
            if c.record.running or c.record.unsettled
        ]
        if active:
            why = f"network {record.name} has active endpoints ({', '.join(active)})"
            raise PermissionDenied(f"error while removing network: {why}")
        if record.config and any(other.config_from == record.name for other in engine.networks):
            raise PermissionDenied(f'error while removing network: configuration network "{record.name}" is in use')
        if record.network:
            await engine.call(UnmakeNetwork(network=record.id))
        with engine.store.transaction():
            engine.networks.delete(record)
            _tell(engine, record, "destroy")
            engine.done(DeleteNetwork, None)


def _tell(engine: Engine, record: NetworkRecord, action: str) -> None:
    engine.events.append("network", action, record.id, {"name": record.name, "type": record.driver})


async def connect(engine: Engine, network: NetworkRecord, container: Container, asked: EndpointSettings) -> None:
    """Connect a container. Errors as `ConnectNetwork`."""
    await engine.router.uninterrupted(_connect(engine, network, container, asked))


async def _connect(engine: Engine, network: NetworkRecord, container: Container, asked: EndpointSettings) -> None:
    async with container.lock:
        record = container.record
        _check_connectable(record, network)
        check_settings(network.name, asked, network)
        if network.name in record.endpoints:
            raise PermissionDenied(f"endpoint with name {record.name} already exists in network {network.name}")
        place = Endpoint(asked=asked, network=network.id if network.network else "")
        if not record.running:
            record.endpoints[network.name] = place
            with engine.store.transaction():
                engine.save(container)
                engine.done(ConnectNetwork, None)
            return
        async with engine.networks.lock:
            await _connect_now(engine, container, network, place)
        await _set_addresses(engine, record)
        await _set_resolver(engine, container)


async def _connect_now(engine: Engine, container: Container, network: NetworkRecord, place: Endpoint) -> None:
    record = container.record
    record.endpoints[network.name] = place
    try:
        await allocate_interface(engine, record, network.name)
        await _take_over(engine, record)
    except BaseException:
        record.endpoints.pop(network.name, None)
        raise
    place.connected = True
    with engine.store.transaction():
        tell(engine, record, network.name, "connect")
        engine.save(container)
        engine.done(ConnectNetwork, None)


def _check_connectable(record: ContainerRecord, network: NetworkRecord) -> None:
    mode = record.host_config.network_mode
    if joined_container(mode) or (mode == "host" != network.name):
        kind = "container sharing network namespace with another container or host"
        raise InvalidArgument(f"{kind} cannot be connected to any other network")
    if "host" in (mode, network.name):
        raise InvalidArgument("container cannot be disconnected from host network or connected to host network")
    if "none" in (network.name, *record.endpoints):
        raise InvalidArgument(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )
    if record.config.network_disabled:
        raise InvalidArgument("the container's networking is disabled")
    if record.status is Status.REMOVING:
        raise Conflict("container is marked for removal and cannot be connected")


async def _take_over(engine: Engine, record: ContainerRecord) -> None:
    """Have the record say what the netdriver says: ports and the default route may have moved."""
    found = await engine.call(ListInterfaces(container=record.id))
    record.note_interfaces(found.get(record.id, []))


async def disconnect(engine: Engine, network: NetworkRecord, container: Container) -> None:
    """Disconnect a container. Errors as `DisconnectNetwork`."""
    await engine.router.uninterrupted(_disconnect(engine, network, container))


async def _disconnect(engine: Engine, network: NetworkRecord, container: Container) -> None:
    async with container.lock:
        record = container.record
        if record.host_config.network_mode == network.name == "host":
            raise InvalidArgument("container cannot be disconnected from host network or connected to host network")
        place = record.endpoints.get(network.name)
        if place is None:
            raise PermissionDenied(f"container {record.id} is not connected to network {network.name}")
        if record.running:
            await engine.call(
                ReleaseInterface(container=record.id, generation=record.generation, network=place.network)
            )
            await _set_addresses(engine, record, gone=place.addresses)
        with engine.store.transaction():
            if place.connected:
                tell(engine, record, network.name, "disconnect")
            record.endpoints.pop(network.name)
            engine.save(container)
            engine.done(DisconnectNetwork, None)
        if record.running:
            await _take_over(engine, record)
            engine.save(container)


async def _set_addresses(engine: Engine, record: ContainerRecord, gone: list[str] | None = None) -> None:
    """Have the container's hosts file name it under the addresses that it has, but for those that are ``gone``."""
    left = gone or []
    job = RuntimeSetAddresses(
        directory=str(engine.config.root / "containers" / record.id),
        hostname=record.config.hostname,
        domainname=record.config.domainname,
        addresses=[address for address in record.addresses if address not in left],
        gone=left,
    )
    try:
        await engine.call(job)
    except DockyardError as error:
        log.warning("hosts not updated container=%s error=%s", record.id, error)


async def _set_resolver(engine: Engine, container: Container) -> None:
    """Have the container ask the embedded DNS server, if it is in a network that has one."""
    places = container.record.endpoints.values()
    resolver = next((place.interface.resolver for place in places if place.interface and place.interface.resolver), "")
    if resolver:
        directory = str(engine.config.root / "containers" / container.id)
        await engine.call(
            RuntimeSetResolver(directory=directory, resolver=resolver, host_config=container.record.host_config)
        )


async def refresh_names(engine: Engine, container: Container) -> None:
    """Tell the netdriver the names of a container that runs; they are another's than before."""
    async with container.lock:
        record = container.record
        for name, place in record.endpoints.items():
            if record.running and place.network:
                try:
                    await engine.call(allocation(engine, record, name))
                except DockyardError as error:
                    log.warning("names not updated container=%s network=%s error=%s", record.id, name, error)


async def restore_interfaces(engine: Engine) -> None:
    """Have containers that run in the networks that their records say; after the netdriver has forgotten one."""
    known = await engine.call(ListInterfaces())
    for container in engine.containers:
        record = container.record
        held = {interface.network for interface in known.get(container.id, []) if interface.placed}
        lost = [n for n, place in record.endpoints.items() if place.interface and place.network not in held]
        if record.running and lost:
            engine.router.spawn(_restore(engine, container, lost))


async def _restore(engine: Engine, container: Container, names: list[str]) -> None:
    async with container.lock:
        record = container.record
        before = record.addresses
        for name in names:
            if record.running and name in record.endpoints:
                try:
                    await engine.call(allocation(engine, record, name))
                    await _take_over(engine, record)
                    engine.save(container)
                except DockyardError as error:
                    log.error("network not restored container=%s network=%s error=%s", record.id, name, error)
        if before != record.addresses:
            await _set_addresses(engine, record, gone=[one for one in before if one not in record.addresses])
