"""Names: who has which name in which network, read from the netdriver's leases as they are now.

A name is a container's in each network that it is in: its own, its short id, its aliases. Who asks sees the networks
that he is in, and no other.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import msgspec

from services.netdriver.leases import Lease

__all__ = ["Names"]

SETTLED = 0.05  # seconds: a directory's time stamp is as coarse as the kernel's tick
log = logging.getLogger("dockyard.dns")


class Names:
    """``directory``: that of the leases. For one thread. What cannot be read is as if it were not."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, tuple[tuple[int, int], Lease]] = {}  # file name → (inode, time), lease
        self._of: dict[str, list[Lease]] = {}  # container → leases, eth0's first
        self._names: dict[tuple[str, str], list[str]] = {}  # (network, name) → addresses
        self._addresses: dict[tuple[str, str], str] = {}  # (network, address) → name
        self._seen = -1
        self._turns: Counter[tuple[str, str, int]] = Counter()

    def refresh(self) -> None:
        """Read what has changed; one stat(2) if nothing has."""
        try:
            changed = self._directory.stat().st_mtime_ns
        except OSError:
            changed = -1
        if changed == self._seen:
            return
        self._read()
        # what was written in the same tick as we read would not show: look again next time
        self._seen = changed if time.time() - changed / 1e9 > SETTLED else -1

    def _read(self) -> None:
        found: dict[str, tuple[tuple[int, int], Lease]] = {}
        for path, mark in self._listed():
            known = self._files.get(path.name)
            if known is not None and known[0] == mark:
                found[path.name] = known
                continue
            try:
                found[path.name] = mark, msgspec.json.decode(path.read_bytes(), type=Lease)
            except (OSError, msgspec.DecodeError) as error:
                log.debug("lease not read path=%s error=%s", path, error)
        if found != self._files:
            self._files = found
            self._index([lease for _, lease in found.values()])

    def _listed(self) -> Iterator[tuple[Path, tuple[int, int]]]:
        """Yield the files of leases in user-defined networks: ``CONTAINER.NETWORK.json``."""
        try:
            for path in self._directory.iterdir():
                if path.suffix == ".json" and "." in path.stem:
                    status = path.stat()
                    yield path, (status.st_ino, status.st_mtime_ns)
        except OSError as error:
            log.debug("leases not listed error=%s", error)

    def _index(self, leases: list[Lease]) -> None:
        self._of, self._names, self._addresses = {}, {}, {}
        self._turns.clear()
        for lease in sorted(leases, key=lambda lease: (len(lease.interface.name), lease.interface.name)):
            network, interface = lease.interface.network, lease.interface
            addresses = [one for one in (interface.address, interface.address6) if one]
            self._of.setdefault(lease.container, []).append(lease)
            for name in dict.fromkeys(name.lower() for name in lease.names):
                self._names.setdefault((network, name), []).extend(addresses)
            if lease.names:
                name = f"{lease.names[0]}.{lease.network_name}"
                self._addresses.update({(network, address): name for address in addresses})

    def knows(self, container: str, name: str) -> bool:
        """Say whether a name is somebody's whom a container may find."""
        return self._find(container, name) is not None

    def lookup(self, container: str, name: str, version: int) -> list[str]:
        """Return the IPv4, or IPv6, addresses that a name has for a container.

        Another comes first each time, of either version by itself: who asks for both sees all of each.
        """
        key = self._find(container, name)
        found = [one for one in self._names[key] if (":" in one) == (version == 6)] if key else []
        if not key or not found:
            return []
        self._turns[*key, version] += 1
        first = self._turns[*key, version] % len(found)
        return found[first:] + found[:first]

    def _find(self, container: str, name: str) -> tuple[str, str] | None:
        """Return the (network, name) that a name means to a container."""
        name = name.lower().removesuffix(".")
        for lease in self._of.get(container, []):
            suffix = f".{lease.network_name.lower()}"
            linked = {alias.lower(): target.lower() for alias, target in lease.links.items()}
            for candidate in (name, name.removesuffix(suffix)):
                key = lease.interface.network, linked.get(candidate, candidate)
                if key in self._names:
                    return key
        return None

    def reverse(self, container: str, address: IPv4Address | IPv6Address) -> str | None:
        """Return the name of an address in one of a container's networks, with the network's name."""
        networks = (lease.interface.network for lease in self._of.get(container, []))
        return next((name for network in networks if (name := self._addresses.get((network, str(address))))), None)

    def servers(self, container: str) -> list[str]:
        """Return the servers that a container is to use for other names; empty: the host's."""
        return next((lease.dns for lease in self._of.get(container, []) if lease.dns), [])

    def reaches_out(self, container: str) -> bool:
        """Say whether a container is in a network that leads out; else it gets no answer from outside either."""
        if any(lease.interface.gateway or lease.interface.gateway6 for lease in self._of.get(container, [])):
            return True
        try:
            default = msgspec.json.decode((self._directory / f"{container}.json").read_bytes(), type=Lease)
        except (OSError, msgspec.DecodeError):
            return False
        return bool(default.interface.gateway or default.interface.gateway6)
