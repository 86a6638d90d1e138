"""How the API shows a container: in `inspect`, and in a list."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, UnsetType, field

from shared.protocol.config import ContainerConfig, EndpointSettings, HostConfig
from shared.protocol.health import Health
from shared.protocol.job import Record

__all__ = [
    "ContainerInspect",
    "ContainerState",
    "ContainerSummary",
    "NetworkSettings",
    "Port",
    "SummaryHostConfig",
    "SummaryNetworks",
]


class ContainerState(Record):
    """API 1.51 ContainerState; times are RFC 3339 with nine digits, or ``0001-01-01T00:00:00Z``."""

    status: str = "created"
    running: bool = False
    paused: bool = False
    restarting: bool = False
    oom_killed: bool = field(default=False, name="OOMKilled")
    dead: bool = False
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    started_at: str = "0001-01-01T00:00:00Z"
    finished_at: str = "0001-01-01T00:00:00Z"
    health: Health | UnsetType = UNSET  # absent without a health check


class NetworkSettings(Record):
    bridge: str = ""
    sandbox_id: str = field(default="", name="SandboxID")
    sandbox_key: str = ""
    ports: dict[str, list[Any] | None] = field(default_factory=dict)
    hairpin_mode: bool = False
    link_local_ipv6_address: str = field(default="", name="LinkLocalIPv6Address")
    link_local_ipv6_prefix_len: int = field(default=0, name="LinkLocalIPv6PrefixLen")
    secondary_ip_addresses: list[Any] | None = field(default=None, name="SecondaryIPAddresses")
    secondary_ipv6_addresses: list[Any] | None = field(default=None, name="SecondaryIPv6Addresses")
    endpoint_id: str = field(default="", name="EndpointID")
    gateway: str = ""
    global_ipv6_address: str = field(default="", name="GlobalIPv6Address")
    global_ipv6_prefix_len: int = field(default=0, name="GlobalIPv6PrefixLen")
    ip_address: str = field(default="", name="IPAddress")
    ip_prefix_len: int = field(default=0, name="IPPrefixLen")
    ipv6_gateway: str = field(default="", name="IPv6Gateway")
    mac_address: str = ""
    networks: dict[str, EndpointSettings] = field(default_factory=dict)


class ContainerInspect(Record):
    """API 1.51 ContainerInspectResponse; ``size_rw`` and ``size_root_fs``, in bytes, where they were asked for."""

    id: str
    created: str
    path: str
    args: list[str]
    state: ContainerState
    image: str
    resolv_conf_path: str
    hostname_path: str
    hosts_path: str
    log_path: str
    name: str
    restart_count: int
    driver: str
    platform: str
    mount_label: str
    process_label: str
    app_armor_profile: str
    exec_ids: list[str] | None = field(name="ExecIDs")
    host_config: HostConfig
    graph_driver: dict[str, Any]
    mounts: list[dict[str, Any]]
    config: ContainerConfig
    network_settings: NetworkSettings
    size_rw: int | UnsetType = UNSET
    size_root_fs: int | UnsetType = UNSET


class Port(Record, kw_only=True, omit_defaults=True):
    ip: str | None = field(default=None, name="IP")
    private_port: int
    public_port: int | None = None
    type: str


class SummaryHostConfig(Record, omit_defaults=True):
    network_mode: str
    annotations: dict[str, str] | None = None


class SummaryNetworks(Record):
    networks: dict[str, EndpointSettings]


class ContainerSummary(Record):
    """API 1.51 ContainerSummary; ``created`` in seconds since the epoch, sizes as in `ContainerInspect`."""

    id: str
    names: list[str]
    image: str
    image_id: str = field(name="ImageID")
    command: str
    created: int
    ports: list[Port]
    labels: dict[str, str]
    state: str
    status: str
    host_config: SummaryHostConfig
    network_settings: SummaryNetworks
    mounts: list[dict[str, Any]]
    size_rw: int | UnsetType = UNSET
    size_root_fs: int | UnsetType = UNSET
