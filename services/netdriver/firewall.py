"""Firewall: our one nftables table. Its wanted content lives here; the kernel's is made equal to it.

A published port is an element of a map, never a rule. No chain of anybody else's is touched, so a foreign table that
drops forwarded packets still drops them. What the table says is in `rules`.
"""

from __future__ import annotations

import hashlib
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Self

from services.netdriver.denials import denials
from services.netdriver.flows import forget
from services.netdriver.leases import Peer
from services.netdriver.netlink import messages
from services.netdriver.nft import Nft, NftError
from services.netdriver.rules import (
    CHAINS,
    Link,
    Zone,
    admitted_element,
    link_element,
    port_element,
    port_value,
    render,
    zone_elements,
)
from services.netdriver.tables import OPERATOR, Tables
from shared.protocol import AllocatedPort
from shared.runtime.config import Config

__all__ = ["Firewall"]

NFNLGRP_NFTABLES = 7
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
NFNL_SUBSYS_NFTABLES = 10
NFT_MSG_DELTABLE, NFT_MSG_DELCHAIN, NFT_MSG_DELRULE, NFT_MSG_DELSET = (
    (NFNL_SUBSYS_NFTABLES << 8) | number for number in (2, 5, 8, 11)
)
REMOVALS = {NFT_MSG_DELTABLE, NFT_MSG_DELCHAIN, NFT_MSG_DELRULE, NFT_MSG_DELSET}
log = logging.getLogger("dockyard.netdriver")


class Firewall:
    """Thread-safe. All methods may be called again; where a change is refused, the whole table is made anew.

    Changes that come while one is carried out are carried out together, in one transaction.

    One that is not ``enabled`` has no table, and removes an earlier one: somebody else makes the rules. Until the first
    `rebuild` changes are only noted. ``forget`` ends what goes on to ports in the old way (`flows.forget`).
    ``record``: a file that has the name of the table made last: one of another name is replaced.
    """

    def __init__(
        self,
        nft: Nft,
        name: str,
        *,
        enabled: bool = True,
        forget: Callable[[Iterable[AllocatedPort]], None] = lambda ports: None,
        record: Path | None = None,
    ) -> None:
        self.table = f"dockyard_{name}"
        self.enabled = enabled
        self._nft, self._forget, self._tables = nft, forget, Tables(nft, self.table, record)
        self._zones: dict[str, Zone] = {}  # by bridge
        self._published: dict[AllocatedPort, str] = {}  # with a host port → address of its container
        self._admitted: dict[tuple[AllocatedPort, str], None] = {}  # let through to that address
        self._links: dict[Link, None] = {}
        self._made = ""  # our chains as the kernel shows them; empty: not made yet
        self._is_begun = False  # what changes now is not in the text that the kernel was first given
        self._pending: list[str] = []  # commands that bring the kernel's table to what is wanted
        self._is_stale = False  # they would not: the last attempt to make the table anew has failed
        self._lock = threading.Lock()  # of the above; held for moments
        self._committing = threading.RLock()  # whoever changes the kernel's table; taken before the other

    @classmethod
    def of(cls, config: Config) -> Self:
        name = config.bridge
        if name == "none":  # as any other stack may say, too
            name = f"none_{hashlib.sha256(bytes(config.run)).hexdigest()[:8]}"
        return cls(Nft(), name, enabled=config.firewall, forget=forget, record=config.run / "table")

    # -- networks

    def put_zone(self, zone: Zone) -> None:
        """Have a bridge in the rules, as it is now. Raises NftError."""
        with self._lock:
            old = self._zones.get(zone.bridge)
            self._zones[zone.bridge] = zone
            if old != zone:
                self._note([*(self._without(old) if old else []), *self._add(zone_elements(zone))])
        self._commit()

    def remove_zone(self, bridge: str) -> None:
        """Forget a bridge; none is no error. Raises NftError."""
        with self._lock:
            zone = self._zones.pop(bridge, None)
            if zone is not None:
                self._note(self._without(zone))
        self._commit()

    def _without(self, zone: Zone) -> list[str]:
        return self._remove(zone_elements(zone))

    def _remove(self, elements: Iterable[tuple[str, str]]) -> list[str]:
        return self._commands("delete", elements)

    def _add(self, elements: Iterable[tuple[str, str]]) -> list[str]:
        return self._commands("add", elements)

    def _commands(self, verb: str, elements: Iterable[tuple[str, str]]) -> list[str]:
        found: dict[str, list[str]] = {}
        for name, one in elements:
            found.setdefault(name, []).append(one)
        return [f"{verb} element inet {self.table} {name} {{ {', '.join(those)} }}" for name, those in found.items()]

    # -- ports

    def publish(self, ports: Mapping[AllocatedPort, str], *, admit: bool = False) -> None:
        """Lead each host port to its container port at an address, and nowhere else.

        One without a host port is let through to the container itself; with ``admit`` all are. Raises NftError.
        """
        with self._lock:
            new = {
                port: address
                for port, address in ports.items()
                if port.host_port and self._published.get(port) != address
            }
            commands = self._delete_ports({port: old for port in new if (old := self._published.get(port))})
            self._published.update(new)
            keys = [(port_element(*one), port_value(*one)) for one in new.items()]
            commands += self._add((name, f"{key} : {value}") for (name, key), value in keys)
            through = [one for one in ports.items() if admit or not one[0].host_port]
            through = [one for one in through if one not in self._admitted]
            self._admitted.update(dict.fromkeys(through))
            self._note([*commands, *self._add(dict.fromkeys(admitted_element(*one) for one in through))])
        self._commit()
        if self._made:
            self._forget(new)

    def unpublish(self, ports: Mapping[AllocatedPort, str]) -> None:
        """Take back what leads to these addresses; other ports are no error. Raises NftError."""
        with self._lock:
            there = {port: address for port, address in ports.items() if self._published.get(port) == address}
            for port in there:
                del self._published[port]
            self._note([*self._delete_ports(there), *self._dismiss(ports.items())])
        self._commit()
        if self._made:
            self._forget(there)

    def _dismiss(self, ports: Iterable[tuple[AllocatedPort, str]]) -> list[str]:
        """Return what ends the letting through of these, as far as no other port needs it."""
        gone = [one for one in ports if one in self._admitted]
        for one in gone:
            del self._admitted[one]
        needed = {admitted_element(*one) for one in self._admitted} if gone else set()
        elements = dict.fromkeys(admitted_element(*one) for one in gone)
        return self._remove((name, one) for name, one in elements if (name, one) not in needed)

    def _delete_ports(self, ports: Mapping[AllocatedPort, str]) -> list[str]:
        return self._remove(port_element(*one) for one in ports.items())

    @property
    def published(self) -> list[AllocatedPort]:
        with self._lock:
            return list(self._published)

    def denials(self) -> list[str]:
        """Return what firewalls of the host's have against what is published. Raises NftError."""
        with self._lock:
            if not self.enabled:
                return []
            ports = [*self._published, *(port for port, _ in self._admitted if not port.host_port)]
            zones = list(self._zones)
        return denials(self._nft, self.table, ports, zones)

    # -- links

    def link(self, parent: str, peers: Iterable[Peer]) -> None:
        """Let ``parent`` reach ports of others, whatever the policy of their bridge. Raises NftError."""
        with self._lock:
            new = [(parent, peer) for peer in peers if (parent, peer) not in self._links]
            self._links.update(dict.fromkeys(new))
            self._note(self._add(("links", link_element(link)) for link in new))
        self._commit()

    def unlink(self, address: str, peers: Iterable[Peer] | None = None) -> None:
        """End what a parent was allowed, or all links of an address, either side. Raises NftError."""
        with self._lock:
            if peers is None:
                gone = [link for link in self._links if address in (link[0], link[1].address)]
            else:
                gone = [link for peer in peers if (link := (address, peer)) in self._links]
            for link in gone:
                del self._links[link]
            self._note(self._remove(("links", link_element(link)) for link in gone))
        self._commit()

    # -- the table as a whole

    def rebuild(self) -> None:
        """Bring the whole table to what is wanted. Raises NftError."""
        with self._committing:
            if not self.enabled:
                for table in self._tables.ours():
                    self._nft.run(f"delete table inet {table}")
                return
            self._is_stale = bool(self._made)
            earlier, kept = ("", "") if self._made else self._tables.earlier(self._zones)
            try:
                self._nft.run(earlier + self._render(kept))
            except NftError as error:
                log.warning("firewall table of another shape, replacing it table=%s error=%s", self.table, error)
                kept += self._tables.operators_rules(self.table)
                away = f"add table inet {self.table}\ndelete table inet {self.table}\n"
                self._nft.run(earlier + away + self._render(kept))
            self._made, self._is_stale = self._listed(), False
            self._tables.note()

    def depart(self) -> None:
        """Remove the table, unless the operator has rules in it. Raises NftError."""
        with self._committing:
            self._made = ""  # so that it is not made again
            if self.table in self._tables.names("inet") and not self._tables.operators_rules(self.table).strip():
                self._nft.run(f"delete table inet {self.table}")

    def _render(self, operator: str = "") -> str:
        with self._lock:
            self._is_begun, self._pending = True, []
            return render(self.table, self._zones.values(), self._published, self._links, operator, self._admitted)

    def _listed(self) -> str:
        """Return our chains as the kernel has them. Raises NftError if one is not there."""
        chains = [*CHAINS, OPERATOR]
        listed = [self._nft.run(f"list chain inet {self.table} {name}") for name in chains]
        return "".join(listed[:-1])  # in the operator's there may be anything

    def watch(self, stop: threading.Event) -> None:
        """Bring back whatever somebody else deletes (``nft flush ruleset``); returns when ``stop`` is set."""
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
                    kinds = REMOVALS
                if kinds & REMOVALS:
                    self._restore()

    def _restore(self) -> None:
        """Our own `rebuild` deletes rules too; then they are there again already."""
        with self._committing:
            if not self._made or self._is_whole():
                return
            log.warning("firewall rules vanished, making them again table=%s", self.table)
            try:
                self.rebuild()
                self._forget(self._published)
            except NftError as error:
                log.error("firewall table cannot be made table=%s error=%s", self.table, error)

    def _is_whole(self) -> bool:
        try:
            return self._listed() == self._made
        except NftError:
            return False

    def _note(self, commands: list[str]) -> None:
        """Remember a change for `_commit`; the caller has the lock."""
        if self._is_begun:
            self._pending += commands

    def _commit(self) -> None:
        """Carry out what is pending, whoever has noted it: those who wait here then find it done. Raises NftError."""
        with self._committing:
            with self._lock:
                commands, self._pending = self._pending, []
            if self._is_stale:
                self.rebuild()
            elif commands:
                try:
                    self._nft.run("\n".join(commands))
                except NftError as error:
                    log.warning("firewall change refused, making the table again error=%s", error)
                    self.rebuild()
