"""Connecting: what the events tell of a container and its network."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.engine.engine import Engine
    from services.engine.record import ContainerRecord

__all__ = ["tell_connected", "tell_disconnected"]


def tell_connected(engine: Engine, record: ContainerRecord) -> None:
    """Part of the transaction that records a start; who joins another container's network connects to none."""
    if engine.networks.id_of(record.host_config.network_mode):
        record.connected = True
        _tell(engine, record, "connect")


def tell_disconnected(engine: Engine, record: ContainerRecord) -> None:
    """Tell of it once: part of the transaction that records that all has been given back."""
    if record.connected:
        record.connected = False
        _tell(engine, record, "disconnect")


def _tell(engine: Engine, record: ContainerRecord, action: str) -> None:
    network = record.host_config.network_mode
    attributes = {"container": record.id, "name": network, "type": engine.networks.driver_of(network)}
    engine.events.append("network", action, engine.networks.id_of(network), attributes)
