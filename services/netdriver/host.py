"""Host: what the host's namespace has, and a bridge in it: made, or found and mended."""

from __future__ import annotations

import contextlib
import logging
import secrets
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, IPv6Network, ip_interface, ip_network
from pathlib import Path

from services.netdriver import dumps
from services.netdriver.dumps import OUR_MAC, HostAddress, HostLink, HostRoute
from services.netdriver.ipam import POOLS, InterfaceAddress, Network, choose_subnet, unique_local
from services.netdriver.netlink import IFF_UP, Rtnl, add_address, add_bridge, delete_address, set_link
from shared.protocol import Bridge, Conflict
from shared.runtime.config import Config

__all__ = [
    "Host",
    "Plan",
    "choose_addresses",
    "close_loopback",
    "ensure_bridge",
    "has_ipv6",
    "is_shared",
    "ports_of",
    "write_sysctl",
]

DEFAULT_MTU = 1500
SYSCTL = Path("/proc/sys/net")
RA_ALTHOUGH_FORWARDING = "2"  # accept_ra
log = logging.getLogger("dockyard.netdriver")


@dataclass(frozen=True)
class Host:
    """What the host's namespace has."""

    links: dict[str, HostLink]
    addresses: list[HostAddress]
    routes: list[HostRoute]

    @classmethod
    def read(cls, rtnl: Rtnl) -> Host:
        return cls(dumps.links(rtnl), dumps.addresses(rtnl), dumps.routes(rtnl))

    def address_of(self, index: int, version: int = 4) -> InterfaceAddress | None:
        """Return a link's first address, a link-local one of IPv6 apart."""
        found = (one.address for one in self.addresses if one.index == index)
        return next((one for one in found if one.version == version and not one.is_link_local), None)

    def bridge_with(self, address: InterfaceAddress) -> str:
        """Name the bridge of ours that has an address; empty if none has."""
        having = {one.index for one in self.addresses if one.address.ip == address.ip}
        return next((link.name for link in self.links.values() if link.is_ours and link.index in having), "")

    def taken(self) -> Iterable[Network]:
        """Yield every network with a route or an address of the host's in it; the default route does not count."""
        yield from (one.address.network for one in self.addresses)
        yield from (one.destination for one in self.routes if one.destination is not None)

    def uplink_mtu(self) -> int:
        """Return the MTU of the default route's link, else 1500."""
        indexes = [one.index for one in self.routes if one.destination is None]
        return next((link.mtu for link in self.links.values() if link.index in indexes), DEFAULT_MTU)


@dataclass(frozen=True)
class Plan:
    """How a bridge is to be. ``given``: its addresses by version, as configured; None: to be chosen, or as it is.

    ``known``: addresses that leases rely on, for a bridge that vanished under them.
    """

    given: dict[int, InterfaceAddress | None]
    known: Sequence[InterfaceAddress] = ()
    part6: IPv6Network | None = None  # with no address configured: the network to take one from

    @classmethod
    def of_default(cls, config: Config, known: Sequence[InterfaceAddress]) -> Plan:
        """Return the default bridge's."""
        given: dict[int, InterfaceAddress | None] = {4: ip_interface(config.bip) if config.bip else None}
        if config.ipv6:
            given[6] = ip_interface(config.bip6) if config.bip6 else None
        return cls(given, known, IPv6Network(config.fixed_cidr_v6) if config.fixed_cidr_v6 else None)

    def relies_on(self, address: InterfaceAddress) -> bool:
        """Say whether somebody has an address of that network."""
        return any(one.network == address.network for one in self.known)


def ensure_bridge(config: Config, plan: Plan, host: Host | None = None) -> Bridge:
    """Make the bridge with addresses and MTU, up, with the sysctls it needs.

    An existing one of ours is brought to other addresses if nobody relies on those it has; else it keeps them.

    ``host``: as it was read a moment ago. Raises Conflict (as `choose_addresses`), Unavailable (no free pool), OSError.
    """
    name = config.bridge
    with Rtnl() as rtnl:
        host = host or Host.read(rtnl)
        addresses = choose_addresses(config, plan, host)
        link = host.links.get(name)
        mtu = config.mtu or (host.uplink_mtu() if link is None else link.mtu)
        if link is None:
            rtnl.run(add_bridge(name, mac_address=OUR_MAC + secrets.token_bytes(4).hex(":")))
        index = socket.if_nametoindex(name) if link is None else link.index
        _set_ipv6(name, on=6 in addresses)
        for version, one in addresses.items():
            there = host.address_of(index, version)
            if there not in (None, one):
                log.warning("address of the bridge changed bridge=%s was=%s now=%s", name, there, one)
                rtnl.run(delete_address(index, there))
        # an MTU that is set, even to what it is, no longer follows the ports'
        rtnl.run(*(add_address(index, one) for one in addresses.values()), set_link(name, up=True, mtu=mtu))
    # 127.0.0.1:PORT leads to a container; its port on the bridge, and the rules, keep it from the host's 127.0.0.1
    write_sysctl(SYSCTL / "ipv4/conf" / name / "route_localnet", "1" if config.firewall else "0")
    # ports that are isolated reach each other by way of the host, where the rules say so (RFC 3069)
    write_sysctl(SYSCTL / "ipv4/conf" / name / "proxy_arp_pvlan", "0" if config.icc else "1")
    if not config.icc:  # it answers at once: else it would wait up to 0.8 s for somebody else to answer
        write_sysctl(SYSCTL / "ipv4/neigh" / name / "proxy_delay", "0")
    if config.ip_forward:
        write_sysctl(SYSCTL / "ipv4/ip_forward", "1")
        if 6 in addresses:
            _forward_ipv6()
    shown = {version: (str(one), str(one.network)) for version, one in addresses.items()}
    (address, subnet), (address6, subnet6) = shown.get(4, ("", "")), shown.get(6, ("", ""))
    return Bridge(name=name, address=address, subnet=subnet, mtu=mtu, address6=address6, subnet6=subnet6)


def choose_addresses(config: Config, plan: Plan, host: Host, *, strict: bool = False) -> dict[int, InterfaceAddress]:
    """Return the addresses that the bridge is to have, by version.

    ``strict``: what is configured, and not only as far as nobody relies on what is there.

    Raises Unavailable, Conflict: the name is another kind of link's; or a bridge that somebody else has made has not
    the configured address, or not the network of ``fixed_cidr``.
    """
    link = host.links.get(config.bridge)
    if link is not None and link.kind != "bridge":
        raise Conflict(f"{config.bridge} exists and is not a bridge")
    found: dict[int, InterfaceAddress] = {}
    for version, given in plan.given.items():
        there = None if link is None else host.address_of(link.index, version)
        wrong = _mismatch(config, given, there, version)
        if wrong and there is not None and plan.relies_on(there):
            if strict:
                raise Conflict(f"{wrong}, and containers have addresses there")
            log.warning("the bridge stays as it is while containers have addresses there: %s", wrong)
            wrong = ""
        if wrong and link is not None and not link.is_ours:
            raise Conflict(wrong)
        found[version] = there if there is not None and not wrong else _new(config, plan, host, version)
        if found[version] != there and (other := host.bridge_with(found[version])) not in ("", config.bridge):
            raise Conflict(f"bridge ip ({found[version]}) is that of {other}, an earlier bridge: delete that")
    return found


def _mismatch(config: Config, given: InterfaceAddress | None, there: InterfaceAddress | None, version: int) -> str:
    """Say why what the bridge has is not what is configured; empty if it is."""
    if there is None:
        return ""
    if given and there != given:
        return f"bridge ip ({given}) does not match existing bridge configuration {there}"
    part = config.fixed_cidr if version == 4 else config.fixed_cidr_v6
    if part and not ip_network(part).subnet_of(there.network):  # type: ignore[arg-type]
        return f"fixed-cidr {part} is not inside the bridge's network {there.network}"
    return ""


def _new(config: Config, plan: Plan, host: Host, version: int) -> InterfaceAddress:
    """Return the address of a bridge that has none, or not the right one. Raises Unavailable."""
    known = (
        one
        for one in plan.known
        if one.version == version and not _mismatch(config, None, one, version) and not host.bridge_with(one)
    )
    return plan.given[version] or next(known, None) or (_free4(config, host) if version == 4 else _own6(config, plan))


def _free4(config: Config, host: Host) -> IPv4Interface:
    """Choose among the pools that contain what containers get addresses from."""
    part = ip_network(config.fixed_cidr) if config.fixed_cidr else None
    pools = [pool for pool in POOLS if part is None or part.subnet_of(pool.network)]  # type: ignore[arg-type]
    return choose_subnet(host.taken(), pools)


def _own6(config: Config, plan: Plan) -> IPv6Interface:
    subnet = plan.part6 or unique_local(f"{_machine()}{config.root}{config.bridge}")
    return IPv6Interface((subnet.network_address + 1, subnet.prefixlen))


def _machine() -> str:
    try:
        return Path("/etc/machine-id").read_text().strip()
    except OSError:
        return ""


def has_ipv6() -> bool:
    return (SYSCTL / "ipv6").exists()


def _set_ipv6(name: str, *, on: bool) -> None:
    """Without IPv6 no link-local address, and never an advertisement of a container's as a route of the host's."""
    conf = SYSCTL / "ipv6/conf" / name
    if has_ipv6():
        write_sysctl(conf / "accept_ra", "0")
        # without a link-local address, which duplicate detection delays, neighbours of forwarded packets are not found
        write_sysctl(conf / "accept_dad", "0")
        write_sysctl(conf / "disable_ipv6", "0" if on else "1")


def _forward_ipv6() -> None:
    """Turn on forwarding; links that heed router advertisements still do, where forwarding would end that."""
    switch = SYSCTL / "ipv6/conf/all/forwarding"
    if switch.read_text().strip() == "1":
        return
    for conf in (SYSCTL / "ipv6/conf").iterdir():
        accepts = conf / "accept_ra"
        with contextlib.suppress(FileNotFoundError):  # a link that went meanwhile
            if conf.name != "all" and accepts.read_text().strip() == "1":
                accepts.write_text(RA_ALTHOUGH_FORWARDING)
    switch.write_text("1")


def is_shared(bridge: str, prefix: str) -> bool:
    """Say whether somebody else has made a bridge, or has links on it, not named ``prefix``…. Raises OSError."""
    with Rtnl() as rtnl:
        link = dumps.links(rtnl).get(bridge)
        if link is None or not link.is_ours:
            return link is not None
        return not all(name.startswith(prefix) for name in dumps.links(rtnl, link.index))


def close_loopback(bridge: str) -> None:
    """Have 127.0.0.0/8 not routed by a bridge. Raises OSError."""
    write_sysctl(SYSCTL / "ipv4/conf" / bridge / "route_localnet", "0")


def ports_of(bridge: str, prefix: str) -> list[str]:
    """List the links that are up, ports of the bridge, and named ``prefix``…. Raises OSError."""
    try:
        index = socket.if_nametoindex(bridge)
    except OSError:
        return []
    with Rtnl() as rtnl:
        found = dumps.links(rtnl, index).values()
    return [link.name for link in found if link.name.startswith(prefix) and link.flags & IFF_UP]


def write_sysctl(sysctl: Path, value: str) -> None:
    """Set a switch, unless it is set: /proc/sys may be read-only where an administrator has done so already."""
    if sysctl.read_text().strip() != value:
        sysctl.write_text(value)
