"""Networks: create, list, inspect, connect, disconnect, delete, prune."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from services.engine import filters
from services.engine.lifecycle import networks as lifecycle
from services.engine.networks import PREDEFINED, NetworkRecord
from services.engine.networkspecs import families
from services.engine.patterns import matches
from services.engine.views import endpoint, rfc3339
from shared.bus.handlers import Handlers
from shared.protocol import (
    IPAM,
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
    "id": lambda network, values: any(matches(value, network.id) for value in values),
    "name": lambda network, values: any(matches(value, network.name) for value in values),
    "type": lambda network, values: TYPES[network.name not in PREDEFINED] in values,
    "label": lambda network, values: filters.match_labels(values, network.labels or {}),
}


@jobs.handles(CreateNetwork)
async def create(engine: Engine, job: CreateNetwork) -> NetworkCreated:
    return await lifecycle.create_network(engine, job)


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
    view = _with_containers if job.detailed else shown
    return [view(engine, network) for network in sorted(found, key=lambda network: network.name)]


def _dangling(values: list[str]) -> bool | None:
    if not values:
        return None
    if len(values) > 1 or values[0].lower() not in TRUE + FALSE:
        raise InvalidArgument(f"invalid filter 'dangling=[{' '.join(values)}]'")
    return values[0].lower() in TRUE


def _is_dangling(engine: Engine, network: NetworkRecord) -> bool:
    """Say whether it is a user's, and no container has it; a configuration is there for networks."""
    return (
        network.config is None
        and network.name not in PREDEFINED
        and not engine.networks.members(engine.containers, network)
    )


@jobs.handles(InspectNetwork)
def inspect(engine: Engine, job: InspectNetwork) -> NetworkInspect:
    return _with_containers(engine, engine.networks.find(job.network))


def _with_containers(engine: Engine, network: NetworkRecord) -> NetworkInspect:
    view = shown(engine, network)
    for container in engine.networks.members(engine.containers, network):
        if container.record.running:
            place = endpoint(engine, container.record, network.name)
            view.containers[container.id] = {
                "Name": container.record.name,
                "EndpointID": place.endpoint_id,
                "MacAddress": place.mac_address,
                "IPv4Address": _with_length(place.ip_address, place.ip_prefix_len),
                "IPv6Address": _with_length(place.global_ipv6_address, place.global_ipv6_prefix_len),
            }
    return view


def _with_length(address: str, prefix_len: int) -> str:
    return f"{address}/{prefix_len}" if address else ""


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
        if job.force:  # an endpoint may be left of one that is no more: not with us
            raise NotFound(f"endpoint {job.container} not found") from None
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
    ipam = _ipam(record) if network else _asked_ipam(record.ipam) if record.config else _predefined_ipam(engine, bridge)
    ipv4, ipv6 = families(record.config) if record.config else (True, bool(bridge and bridge.address6))
    return NetworkInspect(
        name=record.name,
        id=record.id,
        created=rfc3339(record.created),
        scope="local",
        driver=record.driver,
        enable_ipv4=network.ipv4 if network else ipv4,
        enable_ipv6=network.ipv6 if network else ipv6,
        ipam=ipam,
        internal=network.internal if network else False,
        attachable=record.attachable,
        options=_options(engine, bridge) if record.name in PREDEFINED else record.options or {},
        config_only=record.config is not None,
        config_from={"Network": record.config_from},
        labels=record.labels or {},
    )


def _ipam(record: NetworkRecord) -> dict[str, Any]:
    network = record.network
    assert network is not None
    configs = [
        _ipam_config(network.subnet, network.ip_range, network.gateway, network.auxiliary),
        _ipam_config(network.subnet6, network.ip_range6, network.gateway6, network.auxiliary),
    ]
    options = record.ipam.options if record.ipam else None
    return {"Driver": "default", "Options": options, "Config": [config for config in configs if config]}


def _asked_ipam(ipam: IPAM | None) -> dict[str, Any]:
    configs = [
        _ipam_config(one.subnet, one.ip_range, one.gateway, one.auxiliary_addresses or {})
        for one in (ipam.config if ipam else None) or []
    ]
    options = ipam.options if ipam else None
    return {"Driver": "default", "Options": options, "Config": [config for config in configs if config]}


def _ipam_config(subnet: str, ip_range: str, gateway: str, auxiliary: dict[str, str]) -> dict[str, Any]:
    if not subnet:
        return {}
    config: dict[str, Any] = {"Subnet": subnet}
    if ip_range:
        config["IPRange"] = ip_range
    if gateway:
        config["Gateway"] = gateway
    if mine := {name: address for name, address in auxiliary.items() if (":" in address) == (":" in subnet)}:
        config["AuxiliaryAddresses"] = mine
    return config


def _predefined_ipam(engine: Engine, bridge: Bridge | None) -> dict[str, Any]:
    configs = []
    if bridge is not None:
        address, address6 = bridge.address.partition("/")[0], bridge.address6.partition("/")[0]
        configs = [
            _ipam_config(bridge.subnet, engine.config.fixed_cidr, address, {}),
            _ipam_config(bridge.subnet6, engine.config.fixed_cidr_v6, address6, {}),
        ]
    return {"Driver": "default", "Options": None, "Config": [config for config in configs if config]}


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
