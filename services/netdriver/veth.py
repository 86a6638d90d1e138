"""Veth: the pair of links between a container's namespace and a bridge."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from errno import ENODEV
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

from services.netdriver.addresses import gateway_of, interface_addresses
from services.netdriver.ifnames import index_of
from services.netdriver.leases import Lease
from services.netdriver.netlink import (
    IFF_UP,
    Rtnl,
    add_address,
    add_default_route,
    add_veth,
    delete_link,
    get_link,
    set_link,
)
from services.netdriver.netns import OWN, Namespace, inside

__all__ = [
    "PREFIX",
    "attach",
    "cut",
    "enable_ipv6",
    "inner_index",
    "is_up",
    "lead_out",
    "remove_pair",
    "routes",
    "veth_name",
]

PREFIX = "dyv"


def veth_name(lease: Lease) -> str:
    """Name the host end: 15 bytes, IFNAMSIZ's limit. The generation, for a link outlives its release by a moment."""
    whose = lease.container
    if lease.interface.network:
        whose = hashlib.sha256("".join(lease.key).encode()).hexdigest()
    return f"{PREFIX}{whose[:9]}{lease.generation % 0x1000:03x}"


def inner_index(lease: Lease) -> int:
    """Return the index of the link inside."""
    return index_of(lease.interface.name)


def attach(host: Rtnl, lease: Lease, namespace: Namespace, *, master: int, mtu: int, flags: dict[str, int]) -> None:
    """Make the pair, whatever is there, and have the host end on the bridge. Raises OSError."""
    name = veth_name(lease)
    try:
        _add_pair(lease, namespace, mtu)
    except FileExistsError:
        if not is_up(host, name):  # half made by a process that was killed, or a release's last moment
            with suppress(OSError):
                host.run(delete_link(name))
            _add_pair(lease, namespace, mtu)
    # last, for `is_connected` goes by it
    host.run(set_link(name, master=master), set_link(name, up=True, port=flags))


def _add_pair(lease: Lease, namespace: Namespace, mtu: int) -> None:
    """From inside, in one batch; with IPv6 in two. Raises FileExistsError if either end is there."""
    interface, index = lease.interface, inner_index(lease)
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pair = add_veth(
            interface.name,
            index=index,
            mtu=mtu,
            mac_address=interface.mac_address,
            peer=veth_name(lease),
            peer_netns=home,
        )
        rest = [set_link(interface.name, up=True)]
        addresses = interface_addresses(interface)
        rest += [add_address(index, ip_interface(one)) for one in addresses]
        rest += routes(lease)
        if any(":" in one for one in addresses):
            namespace.rtnl.run(pair)
            enable_ipv6(lease, advertisements=False)
            namespace.rtnl.run(*rest)
        else:
            namespace.rtnl.run(pair, *rest)
    finally:
        os.close(home)


def routes(lease: Lease) -> list[Any]:
    """Return the requests for the default routes that go through a lease's interface."""
    interface, index = lease.interface, inner_index(lease)
    return [
        add_default_route(index, ip_address(gateway))
        for version in (4, 6)
        if lease.leads(version) and (gateway := gateway_of(interface, version))
    ]


def lead_out(lease: Lease, namespace: Namespace) -> None:
    """Have the default routes that are this lease's go through its interface. Raises OSError."""
    wanted = routes(lease)
    if wanted:
        namespace.rtnl.run(*wanted)


def enable_ipv6(lease: Lease, *, advertisements: bool) -> None:
    """Switch IPv6 on for the link inside; a namespace has it off. Raises OSError."""
    conf = Path("/proc/sys/net/ipv6/conf") / lease.interface.name

    def switch() -> None:
        if not advertisements:  # nobody else on the bridge tells a container where to go
            (conf / "accept_ra").write_text("0")
            (conf / "accept_dad").write_text("0")
        (conf / "disable_ipv6").write_text("0")

    inside(Path(lease.interface.netns), switch)


def is_up(host: Rtnl, name: str, master: int | None = None) -> bool:
    try:
        link = host.get(get_link(name))
    except OSError as error:
        if error.errno == ENODEV:
            return False
        raise
    return bool(link["flags"] & IFF_UP) and master in (None, link.get_attr("IFLA_MASTER"))


def cut(lease: Lease) -> None:
    """Take the link down at once, even if a process keeps the namespace; none is no error. Raises OSError."""
    try:
        with Rtnl() as host:
            host.run(set_link(veth_name(lease), up=False))
    except OSError as error:
        if error.errno != ENODEV:
            raise


def remove_pair(name: str) -> None:
    """Remove a link; it may be on its way out, with its namespace."""
    with Rtnl() as host, suppress(OSError):
        host.run(delete_link(name))
