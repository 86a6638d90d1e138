"""Connecting: what the events tell of a container and its networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.engine.engine import Engine
    from services.engine.record import ContainerRecord

__all__ = ["tell", "tell_connected", "tell_disconnected"]


def tell_connected(engine: Engine, record: ContainerRecord) -> None:
    """Part of the transaction that records a start; who joins another container's network connects to none."""
    for name, place in record.endpoints.items():
        if not place.connected and not engine.networks.lacks(name):
            place.connected = True
            tell(engine, record, name, "connect")


def tell_disconnected(engine: Engine, record: ContainerRecord) -> None:
    """Tell of it once: part of the transaction that records that all has been given back."""
    for name, place in record.endpoints.items():
        if place.connected:
            place.connected = False
            tell(engine, record, name, "disconnect")


def tell(engine: Engine, record: ContainerRecord, name: str, action: str) -> None:
    """Tell of a container and the network ``name``; part of a transaction."""
    network_id = record.endpoints[name].network or engine.networks.id_of(name)
    network = engine.networks.get(network_id)
    attributes = {"container": record.id, "name": name, "type": network.driver if network else "bridge"}
    engine.events.append("network", action, network_id, attributes)
