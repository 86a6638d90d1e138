"""Firewall: the one nftables table of each bridge. Its wanted content lives here; the kernel's is made equal to it.

A published port is an element of a map, never a rule. No chain of anybody else's is touched, so a foreign table that
drops forwarded packets still drops them.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Self

from services.netdriver.netlink import messages
from services.netdriver.nft import Nft, NftError
from shared.protocol import AllocatedPort
from shared.runtime.config import Config

__all__ = ["Firewall", "Policy", "render"]

ANY = "0.0.0.0"
NFNLGRP_NFTABLES = 7
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
NFT_MSG_DELTABLE = (10 << 8) | 2  # NFNL_SUBSYS_NFTABLES, its message 2
Published = Mapping[AllocatedPort, str]  # port → address of its container
log = logging.getLogger("dockyard.netdriver")

TABLE = """\
table ip {table} {{
\tmap published {{
\t\ttype inet_proto . inet_service : ipv4_addr . inet_service
{published}\t}}
\tmap published_at {{
\t\ttype ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
{published_at}\t}}
\tchain publish {{
\t\tdnat to ip daddr . meta l4proto . th dport map @published_at
\t\tdnat to meta l4proto . th dport map @published
\t}}
\tchain loopback {{ # route_localnet is on for the bridge: keep containers away from the host's 127.0.0.1
\t\ttype filter hook prerouting priority raw; policy accept;
\t\tiifname "{bridge}" ip daddr 127.0.0.0/8 drop
\t}}
\tchain prerouting {{
\t\ttype nat hook prerouting priority dstnat; policy accept;
\t\tfib daddr type local jump publish
\t}}
\tchain output {{
\t\ttype nat hook output priority -100; policy accept;
\t\tfib daddr type local jump publish
\t}}
\tchain postrouting {{
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\toifname "{bridge}" ct status dnat ip saddr {{ 127.0.0.0/8, {subnet} }} masquerade
{masquerade}\t}}
{forward}}}
"""
FORWARD = """\
\tchain forward {{ # from elsewhere only what is published, and answers
\t\ttype filter hook forward priority filter; policy accept;
\t\toifname != "{bridge}" accept
{icc}\t\tct state established,related accept
\t\tct status dnat accept
\t\tdrop
\t}}
"""
INTERNAL = """\
\tchain forward {{ # an internal network: no way out, and none in
\t\ttype filter hook forward priority filter; policy accept;
{icc}\t\tiifname "{bridge}" drop
\t\toifname "{bridge}" drop
\t}}
"""


@dataclass(frozen=True)
class Policy:
    """What a network allows. Without ``icc`` its bridge's ports are isolated, and the way by the host is shut too."""

    ip_masq: bool = True
    icc: bool = True
    internal: bool = False


OPEN = Policy()


def render(table: str, bridge: str, subnet: IPv4Network, published: Published, policy: Policy) -> str:
    """Return the nft(8) commands that replace the table, in one transaction."""
    elements: dict[str, list[str]] = {"published": [], "published_at": []}
    for port, address in sorted(published.items(), key=lambda item: (item[0].host_ip, item[0].host_port)):
        elements[map_of(port)].append(element(port, address))
    masks = policy.ip_masq and not policy.internal
    masquerade = f'\t\tip saddr {subnet} oifname != "{bridge}" masquerade\n' if masks else ""
    among = f'iifname "{bridge}" oifname "{bridge}" accept' if policy.internal else f'iifname "{bridge}" accept'
    forward = (INTERNAL if policy.internal else FORWARD).format(
        bridge=bridge, icc=f"\t\t{among}\n" if policy.icc else ""
    )
    text = TABLE.format(
        table=table,
        bridge=bridge,
        subnet=subnet,
        masquerade=masquerade,
        forward=forward,
        **{name: _elements(found) for name, found in elements.items()},
    )
    return _without(table) + text


def _without(table: str) -> str:
    """Added first, for ``delete`` of what is not there fails."""
    return f"add table ip {table}\ndelete table ip {table}\n"


def map_of(port: AllocatedPort) -> str:
    return "published" if port.host_ip == ANY else "published_at"


def element(port: AllocatedPort, address: str) -> str:
    host = "" if port.host_ip == ANY else f"{port.host_ip} . "
    return f"{host}{port.protocol} . {port.host_port} : {address} . {port.container_port}"


def _elements(found: list[str]) -> str:
    if not found:
        return ""
    return "\t\telements = {\n" + "".join(f"\t\t\t{one},\n" for one in found) + "\t\t}\n"


class Firewall:
    """Thread-safe. All methods may be called again; where a change is refused, the whole table is made anew.

    One that is not ``enabled`` has no table, and removes an earlier one: somebody else makes the rules.
    """

    def __init__(self, nft: Nft, bridge: str, policy: Policy = OPEN, *, enabled: bool = True) -> None:
        self.table = f"dockyard_{bridge}"
        self.subnet: IPv4Network | None = None  # until `rebuild`, changes are only noted
        self.enabled = enabled
        self._nft, self._bridge, self._policy = nft, bridge, policy
        self._published: dict[AllocatedPort, str] = {}
        self._lock = threading.RLock()
        self._family = [self]  # all that one `watch` keeps

    @classmethod
    def of(cls, config: Config) -> Self:
        return cls(Nft(), config.bridge, Policy(config.ip_masq, config.icc), enabled=config.firewall)

    def sibling(self, bridge: str, policy: Policy) -> Firewall:
        """Return the firewall of another bridge, which `watch` of this one keeps too."""
        made = Firewall(self._nft, bridge, policy, enabled=self.enabled)
        made._family = self._family
        self._family.append(made)
        return made

    def remove(self) -> None:
        """Remove the table for good; none is no error. Raises NftError."""
        with self._lock:
            self.subnet = None
            self._published.clear()
            if self in self._family:
                self._family.remove(self)
            self._nft.run(_without(self.table))

    def rebuild(self, subnet: IPv4Network | None = None) -> None:
        """Replace the table by what is wanted. Raises NftError."""
        with self._lock:
            if not self.enabled:
                self._nft.run(_without(self.table))
                return
            self.subnet = subnet or self.subnet
            if self.subnet is not None:
                self._nft.run(render(self.table, self._bridge, self.subnet, self._published, self._policy))

    def publish(self, ports: Iterable[AllocatedPort], address: str) -> None:
        """Lead each host port to its container port at ``address``. Raises NftError."""
        with self._lock:
            wanted = dict.fromkeys(ports, address)
            self._published.update(wanted)
            self._change([f"add {self._element(port, address)}" for port in wanted])

    def unpublish(self, ports: Iterable[AllocatedPort]) -> None:
        """Take ports back; unknown ones are no error. Raises NftError."""
        with self._lock:
            commands = []
            for port in ports:
                address = self._published.pop(port, None)
                if address is not None:  # added first, for ``delete`` of what is not there fails
                    one = self._element(port, address)
                    commands += [f"add {one}", f"delete {one}"]
            self._change(commands)

    def watch(self, stop: threading.Event) -> None:
        """Bring tables back whenever somebody deletes them (``nft flush ruleset``); returns when ``stop`` is set."""
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 12) as events:  # NETLINK_NETFILTER
            events.bind((0, 0))
            events.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
            events.settimeout(1.0)
            while not stop.is_set():
                try:
                    kinds = {kind for kind, _ in messages(events.recv(1 << 18))}
                except TimeoutError:
                    continue
                except OSError:  # ENOBUFS: events were lost, this may have been among them
                    kinds = {NFT_MSG_DELTABLE}
                if NFT_MSG_DELTABLE in kinds:
                    for firewall in list(self._family):
                        firewall._restore()

    def _restore(self) -> None:
        """Our own `rebuild` deletes the table too; then it is there again already."""
        with self._lock:
            if self.subnet is None or self._is_there():
                return
            log.warning("firewall table vanished, making it again table=%s", self.table)
            try:
                self.rebuild()
            except NftError as error:
                log.error("firewall table cannot be made table=%s error=%s", self.table, error)

    def _is_there(self) -> bool:
        try:
            self._nft.run(f"list chain ip {self.table} publish")
        except NftError:
            return False
        return True

    def _element(self, port: AllocatedPort, address: str) -> str:
        return f"element ip {self.table} {map_of(port)} {{ {element(port, address)} }}"

    def _change(self, commands: list[str]) -> None:
        if not commands or self.subnet is None:
            return
        try:
            self._nft.run("\n".join(commands))
        except NftError as error:
            log.warning("firewall change refused, making the table again error=%s", error)
            self.rebuild()
