"""Networks: the three predefined ones, with ids that a root keeps."""

from __future__ import annotations

import hashlib
import secrets
import time
from typing import TYPE_CHECKING

from services.engine.store import Store
from services.engine.views import endpoint, rfc3339
from shared.protocol import Bridge, NetworkInspect, NotFound

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["Networks"]

DRIVERS = {"bridge": "bridge", "host": "host", "none": "null"}


class Networks:
    def __init__(self, store: Store) -> None:
        self._ids = {name: store.fact(f"network:{name}", secrets.token_hex(32)) for name in DRIVERS}
        self._created = int(store.fact("created", str(time.time_ns())))

    def id_of(self, name: str) -> str:
        return self._ids.get(name, "")

    def driver_of(self, name: str) -> str:
        return DRIVERS[name]

    def endpoint_id(self, container_id: str, generation: int) -> str:
        """Return an id for a container's endpoint, the same as long as that start lasts."""
        return hashlib.sha256(f"{container_id}:{generation}".encode()).hexdigest()

    def find(self, ref: str) -> str:
        """Return the name of the network with that name, id or id prefix. Errors: NotFound."""
        for name, network_id in self._ids.items():
            if ref and (ref == name or network_id.startswith(ref)):
                return name
        raise NotFound(f"network {ref} not found")

    def all(self, engine: Engine) -> list[NetworkInspect]:
        return [self.inspect(engine, name, with_containers=False) for name in DRIVERS]

    def inspect(self, engine: Engine, name: str, *, with_containers: bool = True) -> NetworkInspect:
        members = [c for c in engine.containers if c.record.running and c.record.host_config.network_mode == name]
        containers = {}
        for container in members if with_containers else []:
            place = endpoint(engine, container.record)
            containers[container.id] = {
                "Name": container.record.name,
                "EndpointID": place.endpoint_id,
                "MacAddress": place.mac_address,
                "IPv4Address": f"{place.ip_address}/{place.ip_prefix_len}" if place.ip_address else "",
                "IPv6Address": "",
            }
        bridge = engine.bridge if name == "bridge" else None
        return NetworkInspect(
            name=name,
            id=self._ids[name],
            created=rfc3339(self._created),
            scope="local",
            driver=DRIVERS[name],
            ipam={"Driver": "default", "Options": None, "Config": _ipam(bridge, engine.config.fixed_cidr)},
            containers=containers,
            options=_options(engine, bridge),
        )


def _ipam(bridge: Bridge | None, part: str) -> list[dict[str, str]]:
    if bridge is None:
        return []
    return [{"Subnet": bridge.subnet, **({"IPRange": part} if part else {}), "Gateway": bridge.address.split("/")[0]}]


def _options(engine: Engine, bridge: Bridge | None) -> dict[str, str]:
    if bridge is None:
        return {}
    prefix = "com.docker.network"
    return {
        f"{prefix}.bridge.default_bridge": "true",
        f"{prefix}.bridge.enable_icc": str(engine.config.icc).lower(),
        f"{prefix}.bridge.enable_ip_masquerade": str(engine.config.ip_masq).lower(),
        f"{prefix}.bridge.host_binding_ipv4": engine.config.ip,
        f"{prefix}.bridge.name": bridge.name,
        f"{prefix}.driver.mtu": str(bridge.mtu),
    }
