"""A start, of which tests change what they are about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shared.protocol import ContainerConfig, HostConfig, Interface, RuntimeStart

__all__ = ["start_of"]


def start_of(directory: Path, host_config: HostConfig, interface: Interface, **more: Any) -> RuntimeStart:
    """``more``: other fields; those of the container's config as ``domainname``."""
    domainname = more.pop("domainname", "")
    return RuntimeStart(
        container="1",
        generation=1,
        name="web",
        rootfs="/",
        directory=str(directory),
        args=["sh"],
        config=ContainerConfig(hostname="web", domainname=domainname),
        host_config=host_config,
        interface=interface,
        **more,
    )
