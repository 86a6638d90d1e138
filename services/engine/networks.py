"""Networks: their records, and who is in them. What the kernel has of them is the netdriver's.

Three are predefined, with ids that a root keeps; the default bridge's is not there with ``bridge = none``. Who is in a
network is read off the containers' records.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from shared.protocol import IPAM, Bridge, BridgeNetwork, CreateNetwork, InvalidArgument, NotFound

if TYPE_CHECKING:
    from services.engine.container import Container, Containers
    from services.engine.store import Store

__all__ = ["PREDEFINED", "NetworkRecord", "Networks"]

DEFAULT = "bridge"
PREDEFINED = {DEFAULT: "bridge", "host": "host", "none": "null"}  # name → driver


class NetworkRecord(msgspec.Struct, kw_only=True):
    """``created`` in nanoseconds since the epoch; ``network`` what the netdriver made, None for a predefined one.

    ``config``: what was asked of one that is nothing but a configuration; ``config_from`` is the name of such a one.
    """

    id: str
    name: str
    created: int
    driver: str = "bridge"
    network: BridgeNetwork | None = None
    ipam: IPAM | None = None  # as asked for
    attachable: bool = False
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    config: CreateNetwork | None = None
    config_from: str = ""

    def has_own_subnet(self, version: int) -> bool:
        """Say whether its user chose its subnet, and so may choose addresses in it."""
        configs = (self.ipam.config if self.ipam else None) or []
        return any(config.subnet and (":" in config.subnet) == (version == 6) for config in configs)


class Networks:
    """``lock`` is held while networks are made, removed, or told to the netdriver as a whole."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.lock = asyncio.Lock()
        created = int(store.fact("created", str(time.time_ns())))
        self._records: dict[str, NetworkRecord] = {}
        self._ids: dict[str, str] = {}  # by name
        for name, driver in PREDEFINED.items():
            network_id = store.fact(f"network:{name}", secrets.token_hex(32))
            self._keep(NetworkRecord(id=network_id, name=name, created=created, driver=driver))
        self._bridge = self._records[self._ids[DEFAULT]]
        for record in store.networks():
            self._keep(record)

    @property
    def has_bridge(self) -> bool:
        return DEFAULT in self._ids

    def note_bridge(self, bridge: Bridge | None) -> None:
        """Have the default bridge's network among them unless the netdriver has none: ``bridge = none``."""
        if bridge is None or bridge.address or bridge.name != "none":
            self._keep(self._bridge)
        else:
            self._records.pop(self._bridge.id, None)
            self._ids.pop(DEFAULT, None)

    def lacks(self, name: str) -> bool:
        """Say whether a container that is in that network is in none, for there is no default bridge."""
        return name == DEFAULT and not self.has_bridge

    def _keep(self, record: NetworkRecord) -> None:
        self._records[record.id] = record
        self._ids[record.name] = record.id

    def __iter__(self) -> Iterator[NetworkRecord]:
        return iter(list(self._records.values()))

    def made(self) -> list[BridgeNetwork]:
        """Return what the netdriver is to have."""
        return [record.network for record in self if record.network is not None]

    def id_of(self, name: str) -> str:
        return self._ids.get(name, "")

    def get(self, network_id: str) -> NetworkRecord | None:
        return self._records.get(network_id)

    def find(self, ref: str) -> NetworkRecord:
        """Look up by id, then name, then unambiguous id prefix. Errors: NotFound, InvalidArgument."""
        found = self._records.get(ref) or self._records.get(self._ids.get(ref, ""))
        if found is not None:
            return found
        matches = [record for network_id, record in self._records.items() if ref and network_id.startswith(ref)]
        if len(matches) > 1:
            raise InvalidArgument(f"network {ref} is ambiguous ({len(matches)} matches found based on ID prefix)")
        if not matches:
            raise NotFound(f"network {ref} not found")
        return matches[0]

    def put(self, record: NetworkRecord) -> None:
        self._store.put_network(record)
        self._keep(record)

    def delete(self, record: NetworkRecord) -> None:
        self._store.delete_network(record.id)
        self._records.pop(record.id, None)
        self._ids.pop(record.name, None)

    def members(self, containers: Containers, record: NetworkRecord) -> list[Container]:
        """Return the containers that are in a network, or will be when they run."""
        return [container for container in containers if record.name in container.record.endpoints]

    def endpoint_id(self, container_id: str, generation: int, network: str = "") -> str:
        """Return an id for a container's endpoint, the same as long as that start lasts."""
        return hashlib.sha256(f"{container_id}:{generation}{network}".encode()).hexdigest()
