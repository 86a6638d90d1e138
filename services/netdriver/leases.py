"""Leases: what each container was given, one file for each network it is in, written before anything is handed out.

A lease without its kernel objects is made good or taken back; a kernel object without a lease is removed. So whatever
a crash interrupts, the files say what was meant. The embedded DNS server reads them too: they say who has which names.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import msgspec
from msgspec import field

from shared.protocol import Data, Interface

__all__ = ["Lease", "Leases", "Peer"]

SHORT = 12  # digits of a network's id in the name of a file
log = logging.getLogger("dockyard.netdriver")


class Peer(Data, frozen=True):
    """A port that a container may reach though containers may not talk to each other: `LinkContainers`.

    ``container``, ``generation``: whose it is; after that start the address may be another's.
    """

    container: str
    generation: int
    address: str
    protocol: str
    port: int


class Lease(Data, frozen=True):
    """``network_name``, ``gw_priority`` choose the networks that have the default routes, IPv4's and IPv6's.

    ``default_route``, ``default_route6`` say that it is this one.

    ``names``, ``links``, ``dns`` are for the embedded DNS server, ``sysctls`` for the link, as in `AllocateInterface`.
    """

    container: str
    generation: int
    interface: Interface
    network_name: str = ""
    gw_priority: int = 0
    default_route: bool = True
    default_route6: bool = True
    peers: list[Peer] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    dns: list[str] = field(default_factory=list)
    sysctls: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str]:
        return self.container, self.interface.network

    def leads(self, version: int) -> bool:
        """Say whether IPv4's, or IPv6's, default route is to go through it."""
        return self.default_route if version == 4 else self.default_route6

    @property
    def file(self) -> str:
        network = self.interface.network[:SHORT]
        return f"{self.container}.{network}.json" if network else f"{self.container}.json"


class Leases:
    """The leases in ``directory``, kept in memory too. Thread-safe; raises OSError where the disk fails."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._leases: dict[str, dict[str, Lease]] = {}  # container → network → lease
        self._lock = threading.Lock()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in directory.iterdir():
            self._load(path)

    def _load(self, path: Path) -> None:
        if path.suffix == ".json":
            try:
                self._keep(msgspec.json.decode(path.read_bytes(), type=Lease))
                return
            except (OSError, msgspec.DecodeError) as error:
                log.warning("lease is unreadable, dropped path=%s error=%s", path, error)
        path.unlink(missing_ok=True)

    def _keep(self, lease: Lease) -> None:
        self._leases.setdefault(lease.container, {})[lease.interface.network] = lease

    def get(self, container: str, network: str = "") -> Lease | None:
        return self._leases.get(container, {}).get(network)

    def of(self, container: str) -> list[Lease]:
        """Return a container's leases, in the order of their interfaces' names."""
        with self._lock:
            found = list(self._leases.get(container, {}).values())
        return sorted(found, key=lambda lease: (len(lease.interface.name), lease.interface.name))

    def all(self) -> list[Lease]:
        with self._lock:
            return [lease for those in self._leases.values() for lease in those.values()]

    def put(self, lease: Lease) -> None:
        """Write a lease, or replace the container's in that network: whole or not at all."""
        temporary = self._directory / f"{lease.file}.new"
        temporary.write_bytes(msgspec.json.encode(lease))
        temporary.replace(self._directory / lease.file)
        with self._lock:
            self._keep(lease)

    def drop(self, lease: Lease) -> None:
        """Forget a lease; none is no error."""
        (self._directory / lease.file).unlink(missing_ok=True)
        with self._lock:
            those = self._leases.get(lease.container, {})
            those.pop(lease.interface.network, None)
            if not those:
                self._leases.pop(lease.container, None)
