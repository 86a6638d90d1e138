"""Networkspecs: what is asked of a new network, checked. Texts as moby's, which users know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, ip_network

from services.engine.networks import PREDEFINED
from shared.protocol import (
    BridgeNetwork,
    CreateNetwork,
    InvalidArgument,
    IPAMConfig,
    NotFound,
    NotImplementedByUs,
    PermissionDenied,
)

__all__ = ["bridge_network"]

BRIDGE = "com.docker.network.bridge."
MTU = "com.docker.network.driver.mtu"
# options of Docker's bridge driver that would change what a network is
MISSING_OPTIONS = (
    f"{BRIDGE}gateway_mode_ipv4", f"{BRIDGE}gateway_mode_ipv6", f"{BRIDGE}inhibit_ipv4", f"{BRIDGE}host_ipv4",
    f"{BRIDGE}host_ipv6", f"{BRIDGE}trusted_host_interfaces", "com.docker.network.container_iface_prefix",
)  # fmt: skip
MISSING_DRIVERS = ("macvlan", "ipvlan", "overlay")
TRUE, FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")
LINK_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}")  # 15 bytes: IFNAMSIZ's limit
MIN_MTU, MAX_MTU = 68, 65535
SMALLEST = 30  # prefix length of a subnet in which a bridge and a container find room


def bridge_network(job: CreateNetwork, network_id: str) -> BridgeNetwork:
    """Return what the netdriver is to make.

    Errors: InvalidArgument, NotFound (no such driver), NotImplementedByUs, PermissionDenied (a predefined name).
    """
    _check_name(job.name)
    _refuse_missing(job)
    options = job.options or {}
    config = _ipv4_config(job)
    subnet = _subnet(config)
    return BridgeNetwork(
        id=network_id,
        name=job.name,
        bridge=_link_name(options.get(f"{BRIDGE}name", "")),
        subnet=str(subnet) if subnet else "",
        gateway=_inside(subnet, config.gateway, "gateway"),
        ip_range=_ip_range(subnet, config.ip_range),
        auxiliary={
            name: _inside(subnet, address, "auxiliary address")
            for name, address in (config.auxiliary_addresses or {}).items()
        },
        internal=job.internal,
        icc=_boolean(options, f"{BRIDGE}enable_icc"),
        ip_masq=_boolean(options, f"{BRIDGE}enable_ip_masquerade"),
        host_ip=_host_ip(options.get(f"{BRIDGE}host_binding_ipv4", "")),
        mtu=_mtu(options.get(MTU, "")),
    )


def _check_name(name: str) -> None:
    if not name.strip():
        raise InvalidArgument("network name cannot be empty")
    if name in (*PREDEFINED, "default"):
        raise PermissionDenied(f"operation is not permitted on predefined {name} network")
    if "/" in name or ":" in name or name != name.strip() or not name.isprintable():
        raise InvalidArgument(f"invalid network name: {name!r}")


def _refuse_missing(job: CreateNetwork) -> None:
    if job.driver in ("host", "null"):
        raise PermissionDenied(f'only one instance of "{job.driver}" network is allowed')
    if job.driver in MISSING_DRIVERS:
        raise NotImplementedByUs(f"network driver {job.driver!r} is not implemented")
    if job.driver not in ("", "default", "bridge"):
        raise NotFound(f'plugin "{job.driver}" not found')
    for wrong, what in (
        (job.enable_ipv6, "IPv6 in networks"),
        (job.enable_ipv4 is False, "a network without IPv4"),
        (job.ingress, "an ingress network"),
        (job.scope not in ("", "local"), f"the scope {job.scope!r}"),
        (job.config_only or job.config_from, "a network made of another's configuration"),
        (job.ipam and job.ipam.driver not in ("", "default"), "another IPAM driver than default"),
        *((option in (job.options or {}), option) for option in MISSING_OPTIONS),
    ):
        if wrong:
            raise NotImplementedByUs(f"{what} is not implemented")


def _ipv4_config(job: CreateNetwork) -> IPAMConfig:
    """Return the one IPv4 subnet's; an empty one if none is given."""
    configs = (job.ipam.config if job.ipam else None) or []
    if len(configs) > 1:
        raise InvalidArgument("bridge driver doesn't support multiple subnets")
    config = configs[0] if configs else IPAMConfig()
    if not config.subnet and (config.ip_range or config.gateway or config.auxiliary_addresses):
        raise InvalidArgument("invalid network config:\nan IPAM configuration without a subnet")
    return config


def _subnet(config: IPAMConfig) -> IPv4Network | None:
    if not config.subnet:
        return None
    try:
        network = ip_network(config.subnet, strict=False)
    except ValueError:
        raise InvalidArgument(f"invalid network config:\ninvalid subnet {config.subnet}: invalid CIDR block") from None
    if not isinstance(network, IPv4Network):
        raise NotImplementedByUs("IPv6 in networks is not implemented")
    if str(network) != config.subnet:
        raise InvalidArgument(f"invalid network config:\ninvalid subnet {config.subnet}: it should be {network}")
    if network.prefixlen > SMALLEST or network.is_multicast or network.is_loopback:
        raise InvalidArgument(f"invalid network config:\ninvalid subnet {config.subnet}: no containers fit into it")
    return network


def _inside(subnet: IPv4Network | None, address: str, what: str) -> str:
    if not address:
        return ""
    try:
        number = IPv4Address(address)
    except ValueError:
        raise InvalidArgument(f"invalid network config:\ninvalid {what} {address}: invalid address") from None
    if subnet is None or number not in subnet or number in (subnet.network_address, subnet.broadcast_address):
        raise InvalidArgument(f"invalid network config:\ninvalid {what} {address}: parent subnet is {subnet}")
    return str(number)


def _ip_range(subnet: IPv4Network | None, text: str) -> str:
    if not text:
        return ""
    try:
        part = IPv4Network(text)
    except ValueError:
        raise InvalidArgument(f"invalid network config:\ninvalid ip-range {text}: invalid CIDR block") from None
    if subnet is None or not part.subnet_of(subnet):
        raise InvalidArgument(f"invalid network config:\ninvalid ip-range {text}: parent subnet is {subnet}")
    return str(part)


def _boolean(options: Mapping[str, str], key: str) -> bool:
    text = options.get(key, "true")
    if text not in TRUE + FALSE:
        raise InvalidArgument(f"failed to parse {key} value: {text!r} (invalid syntax)")
    return text in TRUE


def _link_name(name: str) -> str:
    if name and not LINK_NAME.fullmatch(name):
        raise InvalidArgument(f"invalid interface name: {name!r}")
    return name


def _host_ip(text: str) -> str:
    try:
        return str(IPv4Address(text)) if text else ""
    except ValueError:
        raise InvalidArgument(f"failed to parse {BRIDGE}host_binding_ipv4 value: {text!r}") from None


def _mtu(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and (text == "0" or MIN_MTU <= int(text) <= MAX_MTU)):
        raise InvalidArgument(f"failed to parse {MTU} value: {text!r}")
    return int(text)
