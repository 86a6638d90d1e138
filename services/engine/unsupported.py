"""What the API can ask of a container and dockyard cannot do yet: refused by name, never dropped silently."""

from __future__ import annotations

from typing import Any

import msgspec

from shared.protocol import ContainerConfig, HostConfig, NotImplementedByUs

__all__ = ["refuse_unsupported"]

# fields that must be at their default (or empty)
CONFIG = ("on_build",)
HOST_CONFIG = (
    "blkio_weight_device", "blkio_device_read_bps", "blkio_device_write_bps", "blkio_device_read_iops",
    "blkio_device_write_iops", "cpu_realtime_period", "cpu_realtime_runtime", "device_cgroup_rules", "device_requests",
    "links", "storage_opt", "cgroup", "publish_all_ports",
)  # fmt: skip
READABLE_LOG_DRIVERS = ("", "json-file")


def refuse_unsupported(config: ContainerConfig, host_config: HostConfig) -> None:
    """Raise NotImplementedByUs for the first thing asked for that dockyard does not do."""
    for name in CONFIG:
        _refuse_if_set(config, name)
    for name in HOST_CONFIG:
        _refuse_if_set(host_config, name)
    if host_config.log_config.type not in READABLE_LOG_DRIVERS:
        raise NotImplementedByUs(f"log driver {host_config.log_config.type!r} is not implemented")
    for mode in (host_config.network_mode, host_config.ipc_mode, host_config.pid_mode):
        if mode.startswith("container:"):
            raise NotImplementedByUs(f"namespace mode {mode!r} is not implemented")
    if host_config.userns_mode not in ("", "host"):
        raise NotImplementedByUs("user namespaces are not implemented")


def _refuse_if_set(struct: Any, name: str) -> None:
    if getattr(struct, name):
        wire = next(field.encode_name for field in msgspec.structs.fields(struct) if field.name == name)
        raise NotImplementedByUs(f"{wire} is not implemented")
