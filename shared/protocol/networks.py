"""Networks, and the jobs between the engine and the netdriver (the 2014 names)."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import field

from shared.protocol.config import PortBinding
from shared.protocol.job import Data, Job, Record

__all__ = [
    "AllocateInterface",
    "AllocatePort",
    "AllocatedPort",
    "Bridge",
    "InitNetworkDriver",
    "InspectNetwork",
    "Interface",
    "LinkContainers",
    "ListInterfaces",
    "ListNetworks",
    "NetworkInspect",
    "ReleaseInterface",
]


class Bridge(Data, frozen=True):
    """The default bridge as it is on this host."""

    name: str
    address: str  # with prefix, as 172.30.0.1/16
    subnet: str
    mtu: int


class InitNetworkDriver(Job[Bridge], frozen=True, tag="init_networkdriver"):
    """Make (or find again) the default bridge and the firewall table, from the configuration. Idempotent.

    Then remove what no lease of ``containers`` (id → generation, None: whichever it has) wants: namespaces, links,
    rules, addresses. Unless the list is ``exact`` containers may be starting meanwhile: it is older than what this very
    process has given.
    """

    REPEATABLE: ClassVar[bool] = True
    containers: dict[str, int | None]
    exact: bool = True


class AllocatedPort(Data, frozen=True):
    container_port: int
    protocol: str
    host_ip: str
    host_port: int


class Interface(Data, frozen=True):
    """A container's network. ``netns`` is the path of its namespace, empty for the host's own."""

    mode: str  # bridge, host, none; container: that of another one
    netns: str = ""
    name: str = ""  # of the interface inside, as eth0
    address: str = ""
    prefix_len: int = 0
    gateway: str = ""
    mac_address: str = ""
    ports: list[AllocatedPort] = field(default_factory=list)


class AllocateInterface(Job[Interface], frozen=True, tag="allocate_interface"):
    """Give a container its namespace, veth pair, address, default route and published ports, in one go.

    Idempotent by (container, generation): the same answer again; an older generation's is released first.
    ``ports``: "80/tcp" → bindings (port "" or "0": any free one; "8000-8010": a range to choose from).
    Errors: InvalidArgument, Conflict (address or port taken: ``Bind for IP:PORT failed: port is already allocated``),
    Unavailable (no address left).
    """

    REPEATABLE: ClassVar[bool] = True
    container: str
    generation: int
    mode: str  # bridge or none; host needs no driver
    hostname: str = ""
    mac_address: str = ""
    ports: dict[str, list[PortBinding]] = field(default_factory=dict)


class ReleaseInterface(Job[None], frozen=True, tag="release_interface"):
    """Give back all that `AllocateInterface` gave. Releasing what is not held is no error."""

    REPEATABLE: ClassVar[bool] = True
    container: str
    generation: int | None = None  # None: whichever it has


class ListInterfaces(Job[dict[str, Interface]], frozen=True, tag="interfaces"):
    """List the leases: container id → interface."""

    REPEATABLE: ClassVar[bool] = True


class AllocatePort(Job[AllocatedPort], frozen=True, tag="allocate_port"):
    """Publish one more port of a container that has an interface. Errors as `AllocateInterface`; NotFound."""

    REPEATABLE: ClassVar[bool] = True

    container: str
    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""
    host_port: str = ""


class LinkContainers(Job[None], frozen=True, tag="link"):
    """Let a container reach ports of another: 2014's `link`, ``-I`` to begin and ``-D`` to end it.

    Where containers of a bridge may talk to each other (``icc``) there is nothing to do. Errors: InvalidArgument,
    NotImplementedByUs (they may not).
    """

    ARGS: ClassVar[tuple[str, ...]] = ("action",)
    REPEATABLE: ClassVar[bool] = True
    action: str
    parent_ip: str
    child_ip: str
    ports: list[str] = field(default_factory=list)  # as "80/tcp"
    ignore_errors: bool = False


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
    REPEATABLE: ClassVar[bool] = True
    filters: dict[str, list[str]] = field(default_factory=dict)


class InspectNetwork(Job[NetworkInspect], frozen=True, tag="network_inspect"):
    REPEATABLE: ClassVar[bool] = True
    network: str
