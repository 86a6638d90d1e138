"""Dumps: what the host's namespace has, read off rtnetlink(7) messages without decoding what nobody asks for.

With hundreds of networks a dump has thousands of attributes a message; pyroute2's decoding of them took 0.3 ms a link.

| message      | fixed part                                                        | attributes used                  |
|--------------|-------------------------------------------------------------------|----------------------------------|
| RTM_NEWLINK  | family, pad, type, index, flags, change (ifinfomsg)               | name, MTU, master, kind, MAC     |
| RTM_NEWADDR  | family, prefix length, flags, scope, index (ifaddrmsg)            | address, local                   |
| RTM_NEWROUTE | family, destination's length, …, type, flags (rtmsg)              | destination, output interface    |
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network

from services.netdriver.ipam import InterfaceAddress, Network
from services.netdriver.netlink import Rtnl, get_addresses, get_links, get_routes

__all__ = ["OUR_MAC", "HostAddress", "HostLink", "HostRoute", "addresses", "attributes", "links", "routes"]

ATTRIBUTE = struct.Struct("=HH")  # length with this header, type
LINK, ADDRESS, ROUTE = struct.Struct("=BBHiII"), struct.Struct("=BBBBI"), struct.Struct("=8BI")
NESTED = 0x3FFF  # what remains of a type without its flags
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_INFO_KIND = 1, 3, 4, 10, 18, 1
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF = 1, 4
RTN_UNICAST = 1
OUR_MAC = "02:42:"  # what the addresses of the bridges begin with that we make


@dataclass(frozen=True)
class HostLink:
    index: int
    name: str
    flags: int
    mtu: int
    master: int  # index of the bridge that it is a port of; 0: none
    kind: str  # bridge, veth …; empty for hardware
    mac_address: str

    @property
    def is_ours(self) -> bool:
        """Say whether it looks like a bridge that we have made."""
        return self.kind == "bridge" and self.mac_address.startswith(OUR_MAC)


@dataclass(frozen=True)
class HostAddress:
    index: int
    address: InterfaceAddress


@dataclass(frozen=True)
class HostRoute:
    """A unicast route. ``destination``: None for the default route."""

    destination: Network | None
    index: int  # of the link that it goes through


def links(rtnl: Rtnl, master: int = 0) -> dict[str, HostLink]:
    """Return the links by name; with ``master`` those that are ports of that bridge. Raises OSError."""
    found = {}
    for body in rtnl.dump(get_links(master)):
        _, _, _, index, flags, _ = LINK.unpack_from(body)
        values = dict(attributes(body[LINK.size :]))
        name = values[IFLA_IFNAME].rstrip(b"\0").decode()
        kind = dict(attributes(values.get(IFLA_LINKINFO, b""))).get(IFLA_INFO_KIND, b"").rstrip(b"\0").decode()
        mtu, master_index = _number(values, IFLA_MTU), _number(values, IFLA_MASTER)
        mac_address = values.get(IFLA_ADDRESS, b"").hex(":")
        found[name] = HostLink(index, name, flags, mtu, master_index, kind, mac_address)
    return found


def addresses(rtnl: Rtnl) -> list[HostAddress]:
    """Return the addresses of both versions. Raises OSError."""
    found = []
    for version in (4, 6):
        for body in rtnl.dump(get_addresses(version)):
            family, prefix_len, _, _, index = ADDRESS.unpack_from(body)
            values = dict(attributes(body[ADDRESS.size :]))
            packed = values.get(IFA_LOCAL) or values.get(IFA_ADDRESS)
            if packed is not None and family == _family(version):
                found.append(HostAddress(index, ip_interface((packed, prefix_len))))
    return found


def routes(rtnl: Rtnl) -> list[HostRoute]:
    """Return the unicast routes of both versions. Raises OSError."""
    found = []
    for version in (4, 6):
        for body in rtnl.dump(get_routes(version)):
            family, length, *_, kind, _flags = ROUTE.unpack_from(body)
            if kind != RTN_UNICAST or family != _family(version):
                continue
            values = dict(attributes(body[ROUTE.size :]))
            packed = values.get(RTA_DST)
            destination = ip_network((packed, length), strict=False) if packed and length else None
            found.append(HostRoute(destination, _number(values, RTA_OIF)))
    return found


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the (type, value) of each attribute (struct nlattr); what is cut short ends them."""
    offset = 0
    while offset + ATTRIBUTE.size <= len(data):
        length, kind = ATTRIBUTE.unpack_from(data, offset)
        if length < ATTRIBUTE.size:
            return
        yield kind & NESTED, data[offset + ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def _number(values: dict[int, bytes], kind: int) -> int:
    return int(struct.unpack("=I", values[kind])[0]) if kind in values else 0


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6
