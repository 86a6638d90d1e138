"""Jobs between the engine and the netdriver (the 2014 names), and what a network and an interface are to it."""

from __future__ import annotations

import re
from typing import ClassVar

from msgspec import field

from shared.protocol.config import PortBinding
from shared.protocol.job import Data, Job

__all__ = [
    "LINK_NAME",
    "AllocateInterface",
    "AllocatePort",
    "AllocatedPort",
    "Bridge",
    "BridgeNetwork",
    "InitNetworkDriver",
    "Interface",
    "LinkContainers",
    "ListDenials",
    "ListInterfaces",
    "MakeNetwork",
    "ReleaseInterface",
    "UnmakeNetwork",
]

LINK_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,14}")  # 15 bytes: IFNAMSIZ's limit


class Bridge(Data, frozen=True):
    """The default bridge as it is on this host."""

    name: str
    address: str  # with prefix, as 172.30.0.1/16
    subnet: str
    mtu: int
    address6: str = ""  # with prefix, as fd8e:1::1/64; empty: none of IPv6
    subnet6: str = ""


class BridgeNetwork(Data, frozen=True):
    """A user-defined network. As asked for, fields may be empty; as made, none is but those that say so.

    With ``driver`` macvlan there is no bridge: its containers' links are on ``parent``, and beside that link's own.
    """

    id: str
    name: str
    driver: str = "bridge"  # or macvlan, ipvlan
    parent: str = ""  # of macvlan, ipvlan: a link of the host
    mode: str = ""  # of macvlan: bridge, private, vepa, passthru; of ipvlan: l2, l3, l3s
    ipvlan_flag: str = "bridge"  # of ipvlan: bridge, private, vepa
    ipv4: bool = True
    ipv6: bool = False
    bridge: str = ""  # the link's name; br- and twelve digits of the id
    subnet: str = ""  # as 172.20.3.0/24
    gateway: str = ""  # the bridge's address in it; empty as made, too, where an internal one's bridge has none
    ip_range: str = ""  # the part of the subnet that containers get addresses from; empty: all of it
    subnet6: str = ""  # as fd00:3::/64; this and the next are empty without IPv6, and those above without IPv4
    gateway6: str = ""
    ip_range6: str = ""
    auxiliary: dict[str, str] = field(default_factory=dict)  # name → address that no container gets
    internal: bool = False  # no way out of it, and none in
    icc: bool = True
    ip_masq: bool = True
    ip_masq6: bool = True
    leaves_as: str = ""  # the host's address that its packets leave with; empty: that of the link they leave by
    leaves_as6: str = ""
    host_ip: str = ""  # that published ports bind to; empty: the configuration's
    mtu: int = 0  # 0: the default route's
    iface_prefix: str = "eth"  # of the names of the links inside
    gateway_mode: str = "nat"  # of IPv4: nat, nat-unprotected, routed, isolated
    gateway_mode6: str = "nat"
    inhibit_ipv4: bool = False  # the bridge gets no IPv4 address
    trusted: list[str] = field(default_factory=list)  # links whose neighbours reach published ports in place

    def mode_of(self, version: int) -> str:
        """Return how IPv4, or IPv6, leads in and out."""
        return self.gateway_mode if version == 4 else self.gateway_mode6

    def is_addressed(self, version: int) -> bool:
        """Say whether the bridge is to have an address of IPv4, or IPv6."""
        return self.mode_of(version) != "isolated" and not (version == 4 and self.inhibit_ipv4)


class InitNetworkDriver(Job[Bridge], frozen=True, tag="init_networkdriver"):
    """Make (or find again) the default bridge, ``networks``, and their firewall tables. Idempotent.

    Then remove other networks, and what no lease of ``containers`` (id → generation, None: whichever it has) wants:
    namespaces, links, rules, addresses. ``connected``: container → the networks it is in ("": by its mode); one that is
    not there keeps all. Unless the list is ``exact`` containers may be starting meanwhile: it is older than what this
    very process has given.
    """

    REPEATABLE: ClassVar[bool] = True
    containers: dict[str, int | None]
    exact: bool = True
    networks: list[BridgeNetwork] = field(default_factory=list)
    connected: dict[str, list[str]] = field(default_factory=dict)


class MakeNetwork(Job[BridgeNetwork], frozen=True, tag="networkdriver_create"):
    """Make a network's bridge and firewall table; returns it complete. Idempotent by id.

    Errors: InvalidArgument (the subnet), PermissionDenied (it overlaps another network's), Conflict (the link's name
    is taken).
    """

    REPEATABLE: ClassVar[bool] = True
    network: BridgeNetwork


class UnmakeNetwork(Job[None], frozen=True, tag="networkdriver_delete"):
    """Remove a network's bridge and table; none is no error. Errors: PermissionDenied (containers are in it)."""

    REPEATABLE: ClassVar[bool] = True
    network: str  # id


class AllocatedPort(Data, frozen=True):
    """A published port. Without a ``host_port`` (0) it is let through to the container's own address, as ``routed``
    networks have it; then ``host_ip`` says of which family, and ``asked`` (8080, 8000-8010, or empty for any) what the
    host port would be elsewhere.
    """

    container_port: int
    protocol: str
    host_ip: str
    host_port: int
    asked: str = ""


class Interface(Data, frozen=True):
    """A container's place in a network. ``netns`` is the path of its namespace, empty for the host's own."""

    mode: str  # bridge, macvlan, ipvlan, host, none; container: that of another one
    network: str = ""  # the id of a user-defined one
    netns: str = ""
    name: str = ""  # of the interface inside, as eth0
    address: str = ""
    prefix_len: int = 0
    gateway: str = ""
    address6: str = ""  # of IPv6, where the network has it
    prefix_len6: int = 0
    gateway6: str = ""
    link_local: list[str] = field(default_factory=list)  # further addresses, asked for
    mac_address: str = ""
    ports: list[AllocatedPort] = field(default_factory=list)
    resolver: str = ""  # address of the embedded DNS server, where there is one

    @property
    def placed(self) -> bool:
        """Say whether it has an address: it is in a network."""
        return bool(self.address or self.address6)


class AllocateInterface(Job[Interface], frozen=True, tag="allocate_interface"):
    """Give a container its namespace, veth pair, address, default route and published ports, in one go.

    Once for each network that it is in. Idempotent by (container, generation, network): the same answer again, names
    and ports as now asked for; an older generation's is released first.
    ``ports``: "80/tcp" → bindings (port "" or "0": any free one; "8000-8010": a range to choose from; no address: those
    of IPv4 and IPv6 that the container has, with one number). They, and the default routes, go through the network with
    the highest ``gw_priority``, then the one whose name sorts first, never through an internal one. Errors:
    InvalidArgument, NotFound (no such network), Conflict (port taken: ``Bind for IP:PORT failed: port is already
    allocated``), PermissionDenied (address taken), DockyardError (no address left).
    """

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    REPEATABLE: ClassVar[bool] = True
    container: str
    generation: int
    mode: str  # bridge, macvlan, ipvlan or none; host needs no driver
    network: str = ""  # the id of a user-defined one; empty: the mode's own
    hostname: str = ""
    mac_address: str = ""
    ifname: str = ""  # of the link inside; empty: the network's prefix and the first free number
    address: str = ""  # the one that is asked for
    address6: str = ""
    link_local: list[str] = field(default_factory=list)
    sysctls: dict[str, str] = field(default_factory=dict)  # of the link inside: net.ipv4.conf.IFNAME.forwarding → 1
    ports: dict[str, list[PortBinding]] = field(default_factory=dict)
    gw_priority: int = 0
    names: list[str] = field(default_factory=list)  # by which others in a user-defined network find it
    links: dict[str, str] = field(default_factory=dict)  # alias → name: what it alone sees there
    dns: list[str] = field(default_factory=list)  # servers to forward to; empty: the configuration's, or the host's


class ReleaseInterface(Job[None], frozen=True, tag="release_interface"):
    """Give back all that `AllocateInterface` gave. Releasing what is not held is no error."""

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    REPEATABLE: ClassVar[bool] = True
    container: str
    generation: int | None = None  # None: whichever it has
    network: str | None = None  # None: all, and the namespace with them


class ListInterfaces(Job[dict[str, list[Interface]]], frozen=True, tag="interfaces"):
    """List the leases: container id → its interfaces, in the order of their names (eth0, eth1 …)."""

    REPEATABLE: ClassVar[bool] = True
    container: str = ""  # of this one alone


class AllocatePort(Job[AllocatedPort], frozen=True, tag="allocate_port"):
    """Publish one more port of a container that has an interface. Errors as `AllocateInterface`; NotFound."""

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    REPEATABLE: ClassVar[bool] = True

    container: str
    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""
    host_port: str = ""


class ListDenials(Job[list[str]], frozen=True, tag="network_denials"):
    """List what firewalls of the host's have against what is published, a sentence each: for `info`'s warnings."""

    REPEATABLE: ClassVar[bool] = True


class LinkContainers(Job[None], frozen=True, tag="link"):
    """Let a container reach ports of another: 2014's `link`, ``-I`` to begin and ``-D`` to end it. Idempotent.

    Where containers of a bridge may talk to each other (``icc``) there is nothing to do. It ends with either container.
    Errors: InvalidArgument.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("action",)
    REPEATABLE: ClassVar[bool] = True
    action: str
    parent_ip: str
    child_ip: str
    ports: list[str] = field(default_factory=list)  # as "80/tcp"
    ignore_errors: bool = False
