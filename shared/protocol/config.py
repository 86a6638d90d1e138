"""What a container is asked to be: Config and HostConfig of the Docker Engine API 1.51, Linux part."""

from __future__ import annotations

from typing import Any

from msgspec import field

from shared.protocol.job import Record
from shared.protocol.mounts import Mount

__all__ = [
    "ContainerConfig",
    "DeviceMapping",
    "DeviceRequest",
    "EndpointSettings",
    "HealthConfig",
    "HostConfig",
    "LogConfig",
    "NetworkingConfig",
    "PortBinding",
    "RestartPolicy",
    "ThrottleDevice",
    "Ulimit",
    "WeightDevice",
    "is_user_defined",
    "joined_container",
]

Strings = list[str] | None
Labels = dict[str, str] | None


class HealthConfig(Record):
    """Durations in nanoseconds; 0 inherits."""

    test: Strings = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class ContainerConfig(Record):
    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, Any] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: Strings = None
    cmd: list[str] | str | None = None
    healthcheck: HealthConfig | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, Any] | None = None
    working_dir: str = ""
    entrypoint: list[str] | str | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: Strings = None
    labels: Labels = None
    stop_signal: str = ""
    stop_timeout: int | None = None  # seconds
    shell: Strings = None


class PortBinding(Record):
    host_ip: str = ""
    host_port: str = ""


class RestartPolicy(Record):
    name: str = "no"
    maximum_retry_count: int = 0


class LogConfig(Record):
    type: str = ""
    config: dict[str, str] | None = None


class DeviceMapping(Record):
    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = "rwm"


class DeviceRequest(Record):
    driver: str = ""
    count: int = 0
    device_ids: Strings = field(default=None, name="DeviceIDs")
    capabilities: list[list[str]] | None = None
    options: Labels = None


class WeightDevice(Record):
    path: str = ""
    weight: int = 0


class ThrottleDevice(Record):
    """``rate`` in bytes or operations a second."""

    path: str = ""
    rate: int = 0


class Ulimit(Record):
    name: str
    soft: int = 0
    hard: int = 0


class HostConfig(Record):
    """Memory in bytes, periods and quotas in microseconds, ``nano_cpus`` in 1e-9 CPUs."""

    cpu_shares: int = 0
    memory: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = field(default=None, name="BlkioDeviceReadIOps")
    blkio_device_write_iops: list[ThrottleDevice] | None = field(default=None, name="BlkioDeviceWriteIOps")
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: Strings = None
    device_requests: list[DeviceRequest] | None = None
    kernel_memory_tcp: int = field(default=0, name="KernelMemoryTCP")
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    nano_cpus: int = 0
    oom_kill_disable: bool | None = None
    init: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None
    cpu_count: int = 0  # this one and the next three: of Windows
    cpu_percent: int = 0
    io_maximum_iops: int = field(default=0, name="IOMaximumIOps")
    io_maximum_bandwidth: int = field(default=0, name="IOMaximumBandwidth")
    binds: Strings = None
    container_id_file: str = field(default="", name="ContainerIDFile")
    log_config: LogConfig = field(default_factory=LogConfig)
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    restart_policy: RestartPolicy = field(default_factory=RestartPolicy)
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: Strings = None
    mounts: list[Mount] | None = None
    console_size: list[int] | None = None
    annotations: Labels = None
    cap_add: Strings = None
    cap_drop: Strings = None
    cgroupns_mode: str = ""
    dns: Strings = None
    dns_options: Strings = None
    dns_search: Strings = None
    extra_hosts: Strings = None
    group_add: Strings = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: Strings = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: Strings = None
    storage_opt: Labels = None
    tmpfs: Labels = None
    uts_mode: str = field(default="", name="UTSMode")
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: Labels = None
    runtime: str = ""
    isolation: str = ""
    masked_paths: Strings = None
    readonly_paths: Strings = None


class EndpointSettings(Record):
    """A container's place in a network, as asked for and, once it runs, as it is."""

    ipam_config: dict[str, Any] | None = field(default=None, name="IPAMConfig")
    links: Strings = None
    aliases: Strings = None
    mac_address: str = ""
    driver_opts: Labels = None
    gw_priority: int = 0
    network_id: str = field(default="", name="NetworkID")
    endpoint_id: str = field(default="", name="EndpointID")
    gateway: str = ""
    ip_address: str = field(default="", name="IPAddress")
    ip_prefix_len: int = field(default=0, name="IPPrefixLen")
    ipv6_gateway: str = field(default="", name="IPv6Gateway")
    global_ipv6_address: str = field(default="", name="GlobalIPv6Address")
    global_ipv6_prefix_len: int = field(default=0, name="GlobalIPv6PrefixLen")
    dns_names: Strings = field(default=None, name="DNSNames")


class NetworkingConfig(Record):
    endpoints_config: dict[str, EndpointSettings | None] | None = None


def is_user_defined(mode: str) -> bool:
    """Say whether a network mode names a network that is not predefined."""
    return mode not in ("", "default", "bridge", "host", "none") and not joined_container(mode)


def joined_container(mode: str) -> str:
    """Return the container (a reference, or an id) whose namespace a mode ``container:X`` joins; else empty."""
    return mode.removeprefix("container:") if mode.startswith("container:") else ""
