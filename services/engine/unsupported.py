"""What the API can ask of a container and dockyard cannot do yet: refused by name, never dropped silently."""

from __future__ import annotations

from typing import Any

import msgspec

from shared.protocol import ContainerConfig, HostConfig, NotImplementedByUs

__all__ = ["refuse_unsupported"]

# fields that must be at their default (or empty)
CONFIG = ("on_build",)
HOST_CONFIG = ("storage_opt", "cgroup")


def refuse_unsupported(config: ContainerConfig, host_config: HostConfig) -> None:
    """Raise NotImplementedByUs for the first thing asked for that dockyard does not do."""
    for name in CONFIG:
        _refuse_if_set(config, name)
    for name in HOST_CONFIG:
        _refuse_if_set(host_config, name)
    if host_config.userns_mode not in ("", "host"):
        raise NotImplementedByUs(f"UsernsMode {host_config.userns_mode!r} is not implemented")


def _refuse_if_set(struct: Any, name: str) -> None:
    if getattr(struct, name):
        wire = next(field.encode_name for field in msgspec.structs.fields(struct) if field.name == name)
        raise NotImplementedByUs(f"{wire} is not implemented")
