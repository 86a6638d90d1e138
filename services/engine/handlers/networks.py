"""Networks: create, list, inspect, connect, disconnect, delete, prune."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from services.engine import filters
from services.engine.lifecycle import networks as lifecycle
from services.engine.networks import PREDEFINED, NetworkRecord
from services.engine.views import endpoint, rfc3339
from shared.bus.handlers import Handlers
from shared.protocol import (
    Bridge,
    ConnectNetwork,
    CreateNetwork,
    DeleteNetwork,
    DisconnectNetwork,
    EndpointSettings,
    InspectNetwork,
    InvalidArgument,
    ListNetworks,
    NetworkCreated,
    NetworkInspect,
    NetworksPruned,
    NotFound,
    PermissionDenied,
    PruneNetworks,
)

if TYPE_CHECKING:
    from services.engine.engine import Engine

jobs: Handlers[Engine] = Handlers()

TYPES = ("builtin", "custom")
TRUE, FALSE = ("1", "t", "true"), ("0", "f", "false")

# key → does the network match one of the values?
TESTS: dict[str, Callable[[NetworkRecord, list[str]], bool]] = {
    "driver": lambda network, values: network.driver in values,
    "scope": lambda network, values: "local" in values,
    "id": lambda network, values: any(network.id.startswith(value) for value in values),
    "name": lambda network, values: any(value in network.name for value in values),
    "type": lambda network, values: TYPES[network.name not in PREDEFINED] in values,
    "label": lambda network, values: filters.match_labels(values, network.labels or {}),
}


@jobs.handles(CreateNetwork)
async def create(engine: Engine, job: CreateNetwork) -> NetworkCreated:
    record = await lifecycle.create_network(engine, job)
    return NetworkCreated(id=record.id)


@jobs.handles(ListNetworks)
def list_networks(engine: Engine, job: ListNetworks) -> list[NetworkInspect]:
    filters.check_keys(job.filters, {*TESTS, "dangling"})
    wanted = {key: values for key, values in job.filters.items() if values}
    for value in wanted.get("type", []):
        if value not in TYPES:
            raise InvalidArgument(f"invalid filter: 'type'='{value}'")
    dangling = _dangling(wanted.pop("dangling", []))
    found = [
        network
        for network in engine.networks
        if all(TESTS[key](network, values) for key, values in wanted.items())
        and (dangling is None or dangling is _is_dangling(engine, network))
    ]
    return [shown(engine, network) for network in sorted(found, key=lambda network: network.name)]


def _dangling(values: list[str]) -> bool | None:
    if not values:
        return None
    if len(values) > 1 or values[0].lower() not in TRUE + FALSE:
        raise InvalidArgument(f"invalid filter 'dangling={values}'")
    return values[0].lower() in TRUE


def _is_dangling(engine: Engine, network: NetworkRecord) -> bool:
    """Say whether it is a user's, and no container has it."""
    return network.name not in PREDEFINED and not engine.networks.members(engine.containers, network)


@jobs.handles(InspectNetwork)
def inspect(engine: Engine, job: InspectNetwork) -> NetworkInspect:
    network = engine.networks.find(job.network)
    view = shown(engine, network)
    for container in engine.networks.members(engine.containers, network):
        if container.record.running:
            place = endpoint(engine, container.record, network.name)
            view.containers[container.id] = {
                "Name": container.record.name,
                "EndpointID": place.endpoint_id,
                "MacAddress": place.mac_address,
                "IPv4Address": f"{place.ip_address}/{place.ip_prefix_len}" if place.ip_address else "",
                "IPv6Address": "",
            }
    return view


@jobs.handles(ConnectNetwork)
async def connect(engine: Engine, job: ConnectNetwork) -> None:
    network, container = engine.networks.find(job.network), engine.containers.find(job.container)
    await lifecycle.connect(engine, network, container, job.endpoint_config or EndpointSettings())


@jobs.handles(DisconnectNetwork)
async def disconnect(engine: Engine, job: DisconnectNetwork) -> None:
    network = engine.networks.find(job.network)
    try:
        container = engine.containers.find(job.container)
    except NotFound:
        if job.force:
            return
        raise
    await lifecycle.disconnect(engine, network, container)


@jobs.handles(DeleteNetwork)
async def delete(engine: Engine, job: DeleteNetwork) -> None:
    await lifecycle.remove_network(engine, engine.networks.find(job.network))


@jobs.handles(PruneNetworks)
async def prune(engine: Engine, job: PruneNetworks) -> NetworksPruned:
    wanted = filters.prune_filter(job.filters)
    deleted = []
    for network in engine.networks:
        if _is_dangling(engine, network) and wanted(network.created, network.labels or {}):
            try:
                await lifecycle.remove_network(engine, network)
            except PermissionDenied:
                continue  # a container has taken it meanwhile
            deleted.append(network.name)
    engine.events.append("network", "prune", "", {"reclaimed": "0"})
    return NetworksPruned(networks_deleted=deleted or None)


def shown(engine: Engine, record: NetworkRecord) -> NetworkInspect:
    """Return a network as the API shows it, without its containers."""
    bridge = engine.bridge if record.name == "bridge" else None
    network = record.network
    return NetworkInspect(
        name=record.name,
        id=record.id,
        created=rfc3339(record.created),
        scope="local",
        driver=record.driver,
        ipam=_predefined_ipam(bridge, engine.config.fixed_cidr) if network is None else _ipam(record),
        internal=network.internal if network else False,
        attachable=record.attachable,
        options=_options(engine, bridge) if network is None else record.options or {},
        labels=record.labels or {},
    )


def _ipam(record: NetworkRecord) -> dict[str, Any]:
    network = record.network
    assert network is not None
    config: dict[str, Any] = {"Subnet": network.subnet}
    if network.ip_range:
        config["IPRange"] = network.ip_range
    config["Gateway"] = network.gateway
    if network.auxiliary:
        config["AuxiliaryAddresses"] = network.auxiliary
    return {"Driver": "default", "Options": record.ipam.options if record.ipam else None, "Config": [config]}


def _predefined_ipam(bridge: Bridge | None, part: str) -> dict[str, Any]:
    if bridge is None:
        return {"Driver": "default", "Options": None, "Config": []}
    config = {"Subnet": bridge.subnet, **({"IPRange": part} if part else {}), "Gateway": bridge.address.split("/")[0]}
    return {"Driver": "default", "Options": None, "Config": [config]}


def _options(engine: Engine, bridge: Bridge | None) -> dict[str, str]:
    if bridge is None:
        return {}
    prefix = "com.docker.network"
    return {
        f"{prefix}.bridge.default_bridge": "true",
        f"{prefix}.bridge.enable_icc": str(engine.config.icc).lower(),
        f"{prefix}.bridge.enable_ip_masquerade": str(engine.config.ip_masq).lower(),
        f"{prefix}.bridge.host_binding_ipv4": engine.config.ip,
        f"{prefix}.bridge.name": bridge.name,
        f"{prefix}.driver.mtu": str(bridge.mtu),
    }
