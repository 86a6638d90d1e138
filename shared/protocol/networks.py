"""Networks, as the API has them."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import field

from shared.protocol.config import EndpointSettings
from shared.protocol.job import Job, Record

__all__ = [
    "ConnectNetwork",
    "CreateNetwork",
    "DeleteNetwork",
    "DisconnectNetwork",
    "IPAM",
    "IPAMConfig",
    "InspectNetwork",
    "ListNetworks",
    "NetworkCreated",
    "NetworkInspect",
    "NetworksPruned",
    "PruneNetworks",
]


class NetworkInspect(Record):
    """API 1.51 Network."""

    name: str
    id: str
    created: str
    scope: str
    driver: str
    enable_ipv4: bool = field(default=True, name="EnableIPv4")
    enable_ipv6: bool = field(default=False, name="EnableIPv6")
    ipam: dict[str, Any] = field(default_factory=dict, name="IPAM")
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    config_from: dict[str, str] = field(default_factory=lambda: {"Network": ""})
    config_only: bool = False
    containers: dict[str, dict[str, str]] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


class ListNetworks(Job[list[NetworkInspect]], frozen=True, tag="networks"):
    """List networks; filters: dangling, driver, id, label, name, scope, type. Errors: InvalidArgument (filters).

    ``detailed``: with the containers of each.
    """

    REPEATABLE: ClassVar[bool] = True
    filters: dict[str, list[str]] = field(default_factory=dict)
    detailed: bool = False


class InspectNetwork(Job[NetworkInspect], frozen=True, tag="network_inspect"):
    """Describe a network. Errors: NotFound, InvalidArgument (ambiguous)."""

    ARGS: ClassVar[tuple[str, ...]] = ("network",)
    REPEATABLE: ClassVar[bool] = True
    network: str


class IPAMConfig(Record):
    """One subnet. API 1.51 IPAMConfig."""

    subnet: str = ""
    ip_range: str = field(default="", name="IPRange")
    gateway: str = ""
    auxiliary_addresses: dict[str, str] | None = None


class IPAM(Record):
    driver: str = "default"
    config: list[IPAMConfig] | None = None
    options: dict[str, str] | None = None


class NetworkCreated(Record):
    id: str
    warning: str = ""


class CreateNetwork(Job[NetworkCreated], frozen=True, tag="network_create"):
    """Create a network: driver bridge, macvlan or ipvlan; with ``config_only`` nothing but a configuration for others,
    which give its name as ``config_from``.

    Errors: Conflict (the name is taken), InvalidArgument, NotFound (no such driver, or configuration),
    NotImplementedByUs, PermissionDenied (predefined; its subnet overlaps another's).
    """

    ARGS: ClassVar[tuple[str, ...]] = ("name",)
    REPEATABLE: ClassVar[bool] = True
    name: str
    driver: str = ""
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    scope: str = ""
    config_only: bool = False
    config_from: str = ""
    ipam: IPAM | None = None
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class ConnectNetwork(Job[None], frozen=True, tag="network_connect"):
    """Connect a container, be it running or not. Errors: NotFound, InvalidArgument, Conflict, PermissionDenied (it is
    in that network already; its address is taken).
    """

    ARGS: ClassVar[tuple[str, ...]] = ("network", "container")
    REPEATABLE: ClassVar[bool] = True
    network: str
    container: str
    endpoint_config: EndpointSettings | None = None


class DisconnectNetwork(Job[None], frozen=True, tag="network_disconnect"):
    """Disconnect a container. Errors: NotFound, PermissionDenied (it is not in that network).

    ``force``: of a container that is not there any more the endpoint is not found; it left none.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("network", "container")
    REPEATABLE: ClassVar[bool] = True
    network: str
    container: str
    force: bool = False


class DeleteNetwork(Job[None], frozen=True, tag="network_delete"):
    """Remove a network. Errors: NotFound, PermissionDenied (predefined; a running container is in it; a configuration
    that another network was made from).
    """

    ARGS: ClassVar[tuple[str, ...]] = ("network",)
    REPEATABLE: ClassVar[bool] = True
    network: str


class NetworksPruned(Record):
    networks_deleted: list[str] | None


class PruneNetworks(Job[NetworksPruned], frozen=True, tag="networks_prune"):
    """Remove the networks that no container has. Filters: until, label, label!. Errors: InvalidArgument.

    Not repeatable: what the first asking removed, a second one could not tell of.
    """

    filters: dict[str, list[str]] = field(default_factory=dict)
