"""Networkspecs: what is asked of a new network, checked. Texts as moby's, which users know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network

from services.engine.networks import PREDEFINED
from shared.protocol import (
    LINK_NAME,
    BridgeNetwork,
    CreateNetwork,
    InvalidArgument,
    IPAMConfig,
    NotFound,
    NotImplementedByUs,
    PermissionDenied,
)

__all__ = ["check_name", "families", "ipam_configs", "network_asked", "warning"]

Network = IPv4Network | IPv6Network
BRIDGE = "com.docker.network.bridge."
MTU = "com.docker.network.driver.mtu"
IFACE_PREFIX = "com.docker.network.container_iface_prefix"
GATEWAY_MODES = ("nat", "nat-unprotected", "routed", "isolated")
LINK_DRIVERS = {  # driver → its option and the modes, the default first
    "macvlan": ("macvlan_mode", ("bridge", "private", "vepa", "passthru")),
    "ipvlan": ("ipvlan_mode", ("l2", "l3", "l3s")),
}
IPVLAN_FLAGS = ("bridge", "private", "vepa")
MISSING_DRIVERS = ("overlay",)
TRUE, FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")
PREFIX = re.compile(r"[a-zA-Z][a-zA-Z0-9_.-]{0,11}")  # room for a number
MIN_MTU, MIN_MTU6, MAX_MTU = 68, 1280, 65535
SMALLEST = {4: 30, 6: 126}  # prefix length of a subnet in which a bridge and a container find room


def network_asked(job: CreateNetwork, network_id: str) -> BridgeNetwork:
    """Return what the netdriver is to make.

    Errors: InvalidArgument, NotFound (no such driver), NotImplementedByUs, PermissionDenied (a predefined name).
    """
    check_name(job.name)
    _refuse_missing(job)
    driver = job.driver if job.driver in LINK_DRIVERS else "bridge"
    options = job.options or {}
    ipv4, ipv6 = families(job)
    if not (ipv4 or ipv6):
        raise InvalidArgument("invalid network config:\nIPv4 or IPv6 must be enabled")
    configs = ipam_configs(job)
    config, config6 = configs.get(4) or IPAMConfig(), configs.get(6) or IPAMConfig()
    auxiliary: dict[str, str] = {}
    for one in (config, config6):
        for name, address in (one.auxiliary_addresses or {}).items():
            auxiliary[name] = _inside(_subnet(one), address, f"auxiliary address {name}")
            if auxiliary[name] == _inside(_subnet(one), one.gateway, f"gateway {one.gateway}"):
                why = "Address already in use"
                raise InvalidArgument(f"failed to allocate secondary ip address ({name}:{address}): {why}")
    parent, mode = _parent(driver, options)
    return BridgeNetwork(
        id=network_id,
        name=job.name,
        driver=driver,
        parent=parent,
        mode=mode,
        ipvlan_flag=_ipvlan_flag(driver, options),
        ipv4=ipv4,
        ipv6=ipv6,
        bridge=_link_name(options.get(f"{BRIDGE}name", "")),
        subnet=config.subnet,
        gateway=_inside(_subnet(config), config.gateway, f"gateway {config.gateway}"),
        ip_range=_ip_range(_subnet(config), config.ip_range),
        subnet6=str(_subnet(config6) or ""),
        gateway6=_inside(_subnet(config6), config6.gateway, f"gateway {config6.gateway}"),
        ip_range6=_ip_range(_subnet(config6), config6.ip_range),
        auxiliary=auxiliary,
        internal=job.internal,
        icc=_boolean(options, f"{BRIDGE}enable_icc"),
        ip_masq=_boolean(options, f"{BRIDGE}enable_ip_masquerade"),
        ip_masq6=_boolean(options, f"{BRIDGE}enable_ip_masquerade"),
        leaves_as=_host_ip(options, "com.docker.network.host_ipv4", 4),
        leaves_as6=_host_ip(options, "com.docker.network.host_ipv6", 6),
        host_ip=_host_ip(options, f"{BRIDGE}host_binding_ipv4", 4),
        mtu=_mtu(options.get(MTU, ""), ipv6=ipv6),
        iface_prefix=_iface_prefix(options.get(IFACE_PREFIX, "")),
        gateway_mode=_gateway_mode(options.get(f"{BRIDGE}gateway_mode_ipv4", ""), internal=job.internal),
        gateway_mode6=_gateway_mode(options.get(f"{BRIDGE}gateway_mode_ipv6", ""), internal=job.internal),
        inhibit_ipv4=_boolean(options, f"{BRIDGE}inhibit_ipv4", "false"),
        trusted=_trusted(options.get(f"{BRIDGE}trusted_host_interfaces", "")),
    )


def warning(job: CreateNetwork) -> str:
    """Return what the user should know of a network that can be made, but not all as asked for."""
    given = [config.subnet for config in (job.ipam.config if job.ipam else None) or [] if ":" in config.subnet]
    return f"{', '.join(given)}: not used, for IPv6 is not enabled" if given and not families(job)[1] else ""


def families(job: CreateNetwork) -> tuple[bool, bool]:
    """Say whether the network is to have IPv4, and IPv6: by the fields, else by the options."""
    options = job.options or {}
    ipv4 = _boolean(options, "com.docker.network.enable_ipv4")
    ipv6 = _boolean(options, "com.docker.network.enable_ipv6", "false")
    return (
        ipv4 if job.enable_ipv4 is None else job.enable_ipv4,
        ipv6 if job.enable_ipv6 is None else job.enable_ipv6,
    )


def check_name(name: str) -> None:
    """Errors: InvalidArgument, PermissionDenied (predefined)."""
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
    if job.driver not in ("", "default", "bridge", *LINK_DRIVERS):
        raise NotFound(f'plugin "{job.driver}" not found')
    for wrong, what in (
        (job.ingress, "an ingress network"),
        (job.scope not in ("", "local"), f"the scope {job.scope!r}"),
        (job.ipam and job.ipam.driver not in ("", "default"), "another IPAM driver than default"),
    ):
        if wrong:
            raise NotImplementedByUs(f"{what} is not implemented")


def _parent(driver: str, options: Mapping[str, str]) -> tuple[str, str]:
    """Return the link of the host's on which a container's is, and the driver's mode; empty for a bridge."""
    if driver not in LINK_DRIVERS:
        return "", ""
    parent = options.get("parent", "")
    if not LINK_NAME.fullmatch(parent):
        raise InvalidArgument(f"a {driver} network needs an interface of the host's: -o parent=NAME, not {parent!r}")
    if parent == "lo":
        raise InvalidArgument(f"loopback interface is not a valid {driver} parent link")
    option, modes = LINK_DRIVERS[driver]
    mode = options.get(option) or modes[0]
    if mode not in modes:
        raise InvalidArgument(f"unknown {driver} mode: {mode}")
    return parent, mode


def _ipvlan_flag(driver: str, options: Mapping[str, str]) -> str:
    flag = options.get("ipvlan_flag", "") if driver == "ipvlan" else ""
    if flag and flag not in IPVLAN_FLAGS:
        raise InvalidArgument(f"unknown ipvlan flag: {flag}")
    return flag or IPVLAN_FLAGS[0]


def ipam_configs(job: CreateNetwork) -> dict[int, IPAMConfig]:
    """Return the subnets that were chosen, by version; those of a version that is not enabled left out."""
    found: dict[int, IPAMConfig] = {}
    ipv4, ipv6 = families(job)
    for config in (job.ipam.config if job.ipam else None) or []:
        subnet = _subnet(config)
        if subnet is None:
            if config.ip_range or config.gateway or config.auxiliary_addresses:
                raise InvalidArgument("invalid network config:\nan IPAM configuration without a subnet")
            continue
        if subnet.version in found:
            raise InvalidArgument("bridge driver doesn't support multiple subnets")
        if ipv6 if subnet.version == 6 else ipv4:
            found[subnet.version] = config
    return found


def _subnet(config: IPAMConfig) -> Network | None:
    if not config.subnet:
        return None
    network = _read(config.subnet, f"subnet {config.subnet}")
    if network.prefixlen > SMALLEST[network.version] or network.is_multicast or network.is_loopback:
        raise _invalid(f"subnet {config.subnet}", "no containers fit into it")
    return network


def _read(text: str, what: str) -> Network:
    """Read a network that is written with its own address and a prefix length. Errors: InvalidArgument."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise _invalid(what, "invalid CIDR block notation") from None
    if "/" not in text or str(network.network_address) != str(ip_address(text.partition("/")[0])):
        raise _invalid(what, f"it should be {network}")
    return network


def _invalid(what: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"invalid network config:\ninvalid {what}: {why}")


def _inside(subnet: Network | None, address: str, what: str) -> str:
    if not address or subnet is None:
        return ""
    try:
        number = ip_address(address)
    except ValueError:
        raise _invalid(what, "invalid address") from None
    if number.version != subnet.version:
        raise _invalid(what, f"parent subnet is an IPv{subnet.version} block")
    if number not in subnet:
        raise _invalid(what, f"parent subnet {subnet} doesn't contain this address")
    if number in (subnet.network_address, *_broadcast(subnet)):
        raise _invalid(what, f"no host of the subnet {subnet} can have this address")
    return str(number)


def _broadcast(subnet: Network) -> tuple[IPv4Address, ...]:
    return (subnet.broadcast_address,) if isinstance(subnet, IPv4Network) else ()


def _ip_range(subnet: Network | None, text: str) -> str:
    if not text or subnet is None:
        return ""
    what = f"ip-range {text}"
    part = _read(text, what)
    if part.version != subnet.version:
        raise _invalid(what, f"parent subnet is an IPv{subnet.version} block")
    if part.prefixlen < subnet.prefixlen:
        raise _invalid(what, f"CIDR block is bigger than its parent subnet {subnet}")
    if not subnet.overlaps(part):
        raise _invalid(what, f"parent subnet {subnet} doesn't contain ip-range")
    return str(part)


def _boolean(options: Mapping[str, str], key: str, default: str = "true") -> bool:
    text = options.get(key, default)
    if text not in TRUE + FALSE:
        raise InvalidArgument(f"failed to parse {key} value: {text!r} (invalid syntax)")
    return text in TRUE


def _link_name(name: str) -> str:
    if name and not LINK_NAME.fullmatch(name):
        raise InvalidArgument(f"invalid interface name: {name!r}")
    return name


def _gateway_mode(mode: str, *, internal: bool) -> str:
    if mode and mode not in GATEWAY_MODES:
        raise InvalidArgument(f"unknown gateway mode {mode}")
    if mode == "isolated" and not internal:
        raise InvalidArgument("gateway mode 'isolated' can only be used for an internal network")
    return mode or "nat"


def _trusted(text: str) -> list[str]:
    return [_link_name(name) for name in dict.fromkeys(text.split(":")) if name]


def _iface_prefix(text: str) -> str:
    if text and not PREFIX.fullmatch(text):
        raise InvalidArgument(f"invalid interface name: {IFACE_PREFIX}={text!r}")
    return text or "eth"


def _host_ip(options: Mapping[str, str], key: str, version: int) -> str:
    text = options.get(key, "")
    try:
        address = ip_address(text) if text else None
    except ValueError:
        address = None
    if text and (address is None or address.version != version):
        raise InvalidArgument(f"failed to parse {key} value: {text!r}")
    return text and str(address)


def _mtu(text: str, *, ipv6: bool) -> int:
    if not text:
        return 0
    least = MIN_MTU6 if ipv6 else MIN_MTU
    if not (text.isascii() and text.isdigit() and (text == "0" or least <= int(text) <= MAX_MTU)):
        raise InvalidArgument(f"failed to parse {MTU} value: {text!r}")
    return int(text)
