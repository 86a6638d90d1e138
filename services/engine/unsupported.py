"""What the API can ask of a container and dockyard cannot do: refused by name, never dropped silently."""

from __future__ import annotations

import msgspec

from shared.protocol import HostConfig, NotImplementedByUs

__all__ = ["refuse_unsupported"]

EMPTY = ("StorageOpt", "Cgroup")  # fields that must be


def refuse_unsupported(host_config: HostConfig) -> None:
    """Raise NotImplementedByUs for the first thing asked for that dockyard does not do."""
    for field in msgspec.structs.fields(host_config):
        if field.encode_name in EMPTY and getattr(host_config, field.name):
            raise NotImplementedByUs(f"{field.encode_name} is not implemented")
    if host_config.userns_mode not in ("", "host"):
        raise NotImplementedByUs(f"UsernsMode {host_config.userns_mode!r} is not implemented")
