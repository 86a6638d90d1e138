"""The default bridge itself: made, or found and mended, from the configuration and what the host has."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any

from services.netdriver.ipam import POOLS, choose_subnet
from services.netdriver.netlink import (
    IFF_UP,
    Rtnl,
    add_address,
    add_bridge,
    get_addresses,
    get_link,
    get_links,
    get_routes,
    set_link,
)
from shared.protocol import Bridge, Conflict
from shared.runtime.config import Config

__all__ = ["ensure_bridge", "ports_of"]

DEFAULT_MTU = 1500
RTN_UNICAST = 1
SYSCTL = Path("/proc/sys/net/ipv4")


@dataclass(frozen=True)
class Host:
    """What the host's namespace has, as pyroute2's messages."""

    links: dict[str, Any]
    addresses: list[Any]
    routes: list[Any]

    @classmethod
    def read(cls, rtnl: Rtnl) -> Host:
        links = {link.get_attr("IFLA_IFNAME"): link for link in rtnl.get(get_links())}
        return cls(links, rtnl.get(get_addresses()), rtnl.get(get_routes()))

    def address_of(self, index: int) -> IPv4Interface | None:
        return next((_interface(one) for one in self.addresses if one["index"] == index), None)

    def taken(self) -> Iterable[IPv4Network]:
        """Yield every network with a route or an address of the host's in it; the default route does not count."""
        yield from (_interface(address).network for address in self.addresses)
        for route in self.routes:
            if route["type"] == RTN_UNICAST and route["dst_len"]:
                yield IPv4Network(f"{route.get_attr('RTA_DST')}/{route['dst_len']}", strict=False)

    def uplink_mtu(self) -> int:
        """Return the MTU of the default route's link, else 1500."""
        indexes = [r.get_attr("RTA_OIF") for r in self.routes if r["type"] == RTN_UNICAST and not r["dst_len"]]
        mtus = [link.get_attr("IFLA_MTU") for link in self.links.values() if link["index"] in indexes]
        return int(mtus[0]) if mtus else DEFAULT_MTU


def ensure_bridge(config: Config, known: IPv4Interface | None) -> Bridge:
    """Make the bridge with address and MTU, up, with the sysctls it needs; keep what an existing one has.

    ``known`` is the address that leases rely on, for a bridge that vanished under them. Raises Conflict (the name is
    another kind of link's, ``bip`` is not the bridge's address, ``fixed_cidr`` not in its network), Unavailable (no
    free pool), OSError.
    """
    name = config.bridge
    with Rtnl() as rtnl:
        host = Host.read(rtnl)
        link = host.links.get(name)
        mtu = config.mtu or (host.uplink_mtu() if link is None else int(link.get_attr("IFLA_MTU")))
        if link is None:
            rtnl.run(add_bridge(name, mac_address=_random_mac()))
            (link,) = rtnl.get(get_link(name))
        elif _kind(link) != "bridge":
            raise Conflict(f"{name} exists and is not a bridge")
        address = host.address_of(link["index"])
        if address is None:
            address = IPv4Interface(config.bip) if config.bip else known or choose_subnet(host.taken(), _pools(config))
        elif config.bip and address != IPv4Interface(config.bip):
            raise Conflict(f"bridge ip ({config.bip}) does not match existing bridge configuration {address}")
        if config.fixed_cidr and not IPv4Network(config.fixed_cidr).subnet_of(address.network):
            raise Conflict(f"fixed-cidr {config.fixed_cidr} is not inside the bridge's network {address.network}")
        # an MTU that is set, even to what it is, no longer follows the ports'
        rtnl.run(add_address(link["index"], address), set_link(name, up=True, mtu=mtu))
    # 127.0.0.1:PORT leads to a container; the firewall keeps containers away from the host's 127.0.0.1
    _write(SYSCTL / "conf" / name / "route_localnet", "1" if config.firewall else "0")
    if config.ip_forward:
        _write(SYSCTL / "ip_forward", "1")
    return Bridge(name=name, address=str(address), subnet=str(address.network), mtu=mtu)


def _pools(config: Config) -> list[IPv4Interface]:
    """Return the pools to choose from: those that contain what containers get addresses from."""
    part = IPv4Network(config.fixed_cidr) if config.fixed_cidr else None
    return [pool for pool in POOLS if part is None or part.subnet_of(pool.network)]


def ports_of(bridge: str, prefix: str) -> list[str]:
    """List the links that are up, ports of the bridge, and named ``prefix``…. Raises OSError."""
    with Rtnl() as rtnl:
        links = {link.get_attr("IFLA_IFNAME"): link for link in rtnl.get(get_links())}
    if bridge not in links:
        return []
    index = links[bridge]["index"]
    return [
        name
        for name, link in links.items()
        if name.startswith(prefix) and link["flags"] & IFF_UP and link.get_attr("IFLA_MASTER") == index
    ]


def _kind(link: Any) -> str:
    info = link.get_attr("IFLA_LINKINFO")
    return str(info.get_attr("IFLA_INFO_KIND")) if info else ""


def _interface(address: Any) -> IPv4Interface:
    return IPv4Interface(f"{address.get_attr('IFA_LOCAL')}/{address['prefixlen']}")


def _random_mac() -> str:
    return "02:42:" + secrets.token_bytes(4).hex(":")


def _write(sysctl: Path, value: str) -> None:
    """Set a switch, unless it is set: /proc/sys may be read-only where an administrator has done so already."""
    if sysctl.read_text().strip() != value:
        sysctl.write_text(value)
