"""What we pack is what pyroute2 encodes, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from services.netdriver.netlink import (
    Message,
    add_address,
    add_bridge,
    add_default_route,
    add_veth,
    delete_address,
    delete_link,
    get_addresses,
    get_link,
    get_links,
    get_routes,
    link_message,
    set_link,
)
from services.netdriver.packing import pack
from services.netdriver.sublinks import MODES, add_link_on

FLAGS, NUMBERS = 0x5, st.integers(0, 2**31 - 1)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-", min_size=1, max_size=15)
MAC_ADDRESSES = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
ADDRESSES4 = st.builds(lambda ip, length: IPv4Interface((ip, length)), NUMBERS, st.integers(0, 32))
ADDRESSES6 = st.builds(lambda ip, length: IPv6Interface((ip, length)), st.integers(1, 2**128 - 1), st.integers(0, 128))


def build_veth(name: str, peer: str, mac_address: str, index: int, mtu: int, fd: int) -> Message:
    return add_veth(name, index=index, mtu=mtu, mac_address=mac_address, peer=peer, peer_netns=fd)


def same(make: Callable[[], Message], sequence: int = 7) -> None:
    """pyroute2 changes what it is given, so each has its own."""
    message = make()
    theirs = message.schema()
    theirs.update(message.fields)
    theirs["attrs"] = message.attributes
    header = {"type": message.type, "flags": message.flags | FLAGS, "sequence_number": sequence, "pid": 0}
    theirs["header"].update(header)
    theirs.encode()
    assert pack(make(), sequence, FLAGS) == bytes(theirs.data)


@given(NAMES, NAMES, MAC_ADDRESSES, NUMBERS, NUMBERS, NUMBERS)
def test_a_pair(name: str, peer: str, mac_address: str, index: int, mtu: int, fd: int) -> None:
    same(lambda: build_veth(name, peer, mac_address, index, mtu, fd))


@given(NAMES, NUMBERS, NUMBERS, st.booleans(), st.integers(0, 1))
def test_changes_of_a_link(name: str, master: int, mtu: int, up: bool, isolated: int) -> None:
    port = {"IFLA_BRPORT_ISOLATED": isolated, "IFLA_BRPORT_MODE": 1}
    same(lambda: set_link(name, up=up, master=master, mtu=mtu))
    same(lambda: set_link(name, up=up, port=port))
    same(lambda: delete_link(name))
    same(lambda: get_link(name))


@given(NUMBERS, ADDRESSES4 | ADDRESSES6)
def test_addresses(index: int, address: IPv4Interface | IPv6Interface) -> None:
    same(lambda: add_address(index, address))
    same(lambda: delete_address(index, address))


@pytest.mark.parametrize("gateway", [IPv4Address("172.30.0.1"), IPv6Address("fd98::1")])
def test_default_routes(gateway: IPv4Address | IPv6Address) -> None:
    same(lambda: add_default_route(100, gateway))


def test_a_bridge_and_dumps() -> None:
    same(lambda: add_bridge("dockyard0", mac_address="02:42:00:00:00:01"))
    for master in (0, 3):
        same(lambda master=master: get_links(master))  # type: ignore[misc]
    for version in (4, 6):
        same(lambda version=version: get_addresses(version))  # type: ignore[misc]
        same(lambda version=version: get_routes(version))  # type: ignore[misc]


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes])
def test_sublinks(kind: str, mode: str) -> None:
    same(lambda: add_link_on(3, "lan0", kind=kind, mode=mode, mac_address="02:42:00:00:00:01", index=100, netns=9))


def test_what_cannot_be_packed_is_refused_and_not_left_out() -> None:
    """pyroute2 leaves it out without a word."""
    with pytest.raises(KeyError):
        pack(link_message(0, IFLA_NONESUCH=1), 1, 0)
    with pytest.raises(NotImplementedError, match="ifstats"):
        pack(link_message(0, IFLA_STATS={}), 1, 0)
    assert ifinfmsg.nla_map[7] == ("IFLA_STATS", "ifstats")
