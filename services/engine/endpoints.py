"""Endpoints: a container's places in networks, from what was asked for to what the netdriver gave.

Texts as moby's. In a predefined network nobody chooses an address or an alias.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

import msgspec

from services.engine.networks import PREDEFINED, NetworkRecord
from services.engine.record import ContainerRecord, Endpoint
from shared.protocol import (
    LINK_NAME,
    AllocateInterface,
    Conflict,
    CreateContainer,
    DockyardError,
    EndpointSettings,
    HostConfig,
    Interface,
    InvalidArgument,
    ListInterfaces,
    NotFound,
    PermissionDenied,
    PortBinding,
    is_user_defined,
    joined_container,
)
from shared.runtime.values import parse_mac

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = [
    "allocate_interface",
    "allocate_interfaces",
    "allocation",
    "asked_endpoints",
    "check_settings",
    "dns_names",
    "resolve_endpoints",
]

SHORT_ID = 12
IFNAME, SYSCTLS = "com.docker.network.endpoint.ifname", "com.docker.network.endpoint.sysctls"  # of DriverOpts
SYSCTL = re.compile(r"(net\.(?:ipv4|ipv6|mpls)\.[a-z]+\.)(?:IFNAME|ifname)(\.[a-z0-9_]+)")  # --network: in lower case


def asked_endpoints(engine: Engine, job: CreateContainer, host_config: HostConfig) -> dict[str, Endpoint]:
    """Return the networks a new container is to be in, by name, that of its mode first.

    One that does not exist (yet) has its reference for a name; the start looks again. A mode that is the beginning of a
    network's id becomes that id. Errors: InvalidArgument.
    """
    mode = host_config.network_mode
    if is_user_defined(mode) and (network := engine.networks.get(engine.networks.id_of(_name(engine, mode)))):
        host_config.network_mode = mode if mode == network.name else network.id
    given = (job.networking_config.endpoints_config if job.networking_config else None) or {}
    if joined_container(mode):
        if given:
            raise InvalidArgument("conflicting options: a container's network and others cannot be had together")
        return {}
    if "default" in given and "bridge" not in given:
        given = {"bridge" if name == "default" else name: asked for name, asked in given.items()}
    names = {ref: _name(engine, ref) for ref in (mode, *given)}
    asked = {names[ref]: settings or EndpointSettings() for ref, settings in given.items()}
    if not asked or is_user_defined(mode):
        asked = {names[mode]: asked.get(names[mode]) or EndpointSettings(), **asked}
    shut = [name for name in asked if name in ("host", "none")]
    if shut and len(asked) > 1:
        raise InvalidArgument(f"container cannot be connected to multiple networks with one of them {shut[0]}")
    _check_mac_address(job, asked[names[mode]] if names[mode] in asked else next(iter(asked.values())))
    for name, settings in asked.items():
        check_settings(name, settings, engine.networks.get(engine.networks.id_of(name)))
    return {name: Endpoint(asked=settings) for name, settings in asked.items()}


def _name(engine: Engine, ref: str) -> str:
    try:
        return engine.networks.find(ref).name
    except NotFound:
        return ref


def _check_mac_address(job: CreateContainer, settings: EndpointSettings) -> None:
    wide = job.config.mac_address
    if wide and settings.mac_address not in ("", wide):
        raise InvalidArgument(
            "the container-wide MAC address must match the endpoint-specific MAC address, or be left empty"
        )
    settings.mac_address = settings.mac_address or wide


def check_settings(name: str, settings: EndpointSettings, network: NetworkRecord | None) -> None:
    """Check what is asked of an endpoint. ``network``: None if it is not known yet.

    Errors: InvalidArgument, PermissionDenied (the network is only a configuration).
    """
    if network is not None and network.config is not None:
        raise PermissionDenied("cannot create endpoint on configuration-only network")
    _check_link(settings)
    ipam = settings.ipam_config or {}
    if name in PREDEFINED:
        if ipam.get("IPv4Address") or ipam.get("IPv6Address"):
            raise InvalidArgument("user specified IP address is supported on user defined networks only")
        if settings.aliases:
            raise InvalidArgument("network-scoped alias is supported only for containers in user defined networks")
        return
    for version in (4, 6):
        text = _asked_address(settings, version)
        address = _address(text, f"IPv{version}", (version,)) if text else None
        if address is None or network is None or network.network is None:
            continue
        why = ""
        subnet = network.network.subnet if version == 4 else network.network.subnet6
        if not network.has_own_subnet(version):
            why = "user specified IP address is supported only when connecting to networks with user configured subnets"
        elif not subnet or address not in ipaddress.ip_network(subnet):
            why = f"no configured subnet or ip-range contain the IP address {address}"
        if why:
            raise InvalidArgument(f"invalid config for network {name}: invalid endpoint settings:\n{why}")


def _check_link(settings: EndpointSettings) -> None:
    """Check what is asked of the link inside. Errors: InvalidArgument."""
    for text in _link_local(settings):
        _address(text, "link-local IP", (4, 6))
    if settings.mac_address:
        try:
            parse_mac(settings.mac_address)
        except ValueError as error:
            raise InvalidArgument(str(error)) from None
    options = settings.driver_opts or {}
    if not LINK_NAME.fullmatch(options.get(IFNAME, "eth0")):
        raise InvalidArgument(f"invalid endpoint settings:\ninvalid interface name: {options[IFNAME]!r}")
    _sysctls(settings)


def _sysctls(settings: EndpointSettings) -> dict[str, str]:
    """Return the sysctls that are asked for of the link inside. Errors: InvalidArgument."""
    found = {}
    for entry in filter(None, ((settings.driver_opts or {}).get(SYSCTLS) or "").split(",")):
        name, _, value = entry.partition("=")
        match = SYSCTL.fullmatch(name)
        if match is None or not value.isprintable() or not value:
            why = "not net.ipv4, net.ipv6 or net.mpls, KIND.IFNAME.NAME=VALUE"
            raise InvalidArgument(f"invalid endpoint settings:\ninvalid sysctl {entry!r}: {why}")
        found[f"{match[1]}IFNAME{match[2]}"] = value
    return found


def _asked_address(settings: EndpointSettings, version: int) -> str:
    return str((settings.ipam_config or {}).get(f"IPv{version}Address") or "")


def _link_local(settings: EndpointSettings) -> list[str]:
    return [str(one) for one in (settings.ipam_config or {}).get("LinkLocalIPs") or []]


def _address(text: str, what: str, versions: tuple[int, ...]) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or address.version not in versions:
        raise InvalidArgument(f"invalid endpoint settings:\ninvalid {what} address: {text}")
    return address


def resolve_endpoints(engine: Engine, record: ContainerRecord) -> bool:
    """Have each endpoint know its network, by its id, else by its name; returns whether something is new.

    Errors: NotFound, those of `check_settings`.
    """
    before = {name: place.network for name, place in record.endpoints.items()}
    found: dict[str, Endpoint] = {}
    for name, place in record.endpoints.items():
        if engine.networks.lacks(name):
            found[name] = place
            continue
        network = engine.networks.get(place.network) or engine.networks.find(name)
        place.network = network.id if network.network is not None else ""
        check_settings(network.name, place.asked, network)
        found[network.name] = place
    record.endpoints = found
    return before != {name: place.network for name, place in found.items()}


def dns_names(record: ContainerRecord, place: Endpoint) -> list[str]:
    """Return the names by which others in a user-defined network find a container."""
    own = [record.name, *(place.asked.aliases or []), record.id[:SHORT_ID], record.config.hostname]
    return list(dict.fromkeys(name for name in own if name))


async def allocate_interfaces(engine: Engine, record: ContainerRecord) -> Interface:
    """Have the container's network made, if it has one of its own. Errors: those of `AllocateInterface`."""
    mode = record.host_config.network_mode
    if mode == "host":
        return Interface(mode="host")
    if joined_container(mode):
        return Interface(mode="container")
    places = [] if record.config.network_disabled else list(record.endpoints)
    names = [name for name in places if name != "none" and not engine.networks.lacks(name)]
    if not names:
        return await engine.call(AllocateInterface(container=record.id, generation=record.generation, mode="none"))
    given = [await allocate_interface(engine, record, name) for name in names]
    if len(given) > 1:  # ports and default route may have moved meanwhile
        given = (await engine.call(ListInterfaces(container=record.id)))[record.id]
    record.note_interfaces(given)
    return record.interface or given[0]


async def allocate_interface(engine: Engine, record: ContainerRecord, name: str) -> Interface:
    """Have the container's place in one network made. Errors: those of `AllocateInterface`, but DockyardError for a
    port that is taken.
    """
    try:
        return await engine.call(allocation(engine, record, name))
    except Conflict as error:  # in Docker's words, which tools look for; and 500, as there
        network = record.endpoints[name].network
        place = f"{record.name} ({engine.networks.endpoint_id(record.id, record.generation, network)})"
        why = f"driver failed programming external connectivity on endpoint {place}: {error.message}"
        raise DockyardError(why) from error


def allocation(engine: Engine, record: ContainerRecord, name: str) -> AllocateInterface:
    """Return the job that gives a container its place in the network ``name``."""
    place = record.endpoints[name]
    asked = place.asked
    job = AllocateInterface(
        container=record.id,
        generation=record.generation,
        mode="bridge",
        hostname=record.config.hostname,
        mac_address=asked.mac_address,
        ifname=(asked.driver_opts or {}).get(IFNAME, ""),
        link_local=_link_local(asked),
        sysctls=_sysctls(asked),
        ports=_bindings(record),
        gw_priority=asked.gw_priority,
    )
    if not place.network:
        return job
    network = engine.networks.get(place.network)
    return msgspec.structs.replace(
        job,
        mode=network.driver if network is not None else "bridge",
        network=place.network,
        address=_asked_address(asked, 4),
        address6=_asked_address(asked, 6),
        names=dns_names(record, place),
        links=dict(_links(engine, asked)),
        dns=list(record.host_config.dns or engine.config.dns),
    )


def _links(engine: Engine, asked: EndpointSettings) -> list[tuple[str, str]]:
    """Return (alias, name) of each ``CONTAINER[:ALIAS]``."""
    found = []
    for link in asked.links or []:
        ref, _, alias = link.partition(":")
        try:
            name = engine.containers.find(ref).record.name
        except (NotFound, InvalidArgument):
            name = ref.removeprefix("/")
        found.append((alias or ref, name))
    return found


def _bindings(record: ContainerRecord) -> dict[str, list[PortBinding]]:
    """Return the ports to publish: with PublishAllPorts also what is only exposed, each on any free port."""
    given = {port: bindings for port, bindings in (record.host_config.port_bindings or {}).items() if bindings}
    exposed = record.config.exposed_ports or {} if record.host_config.publish_all_ports else {}
    return {port: given.get(port, []) for port in {**given, **exposed}}
