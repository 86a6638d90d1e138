"""Sysctls of one link: files below /proc/sys/net, which shows the network namespace of who looks (sysctl(8))."""

from __future__ import annotations

from pathlib import Path

from services.netdriver.leases import Lease
from services.netdriver.netns import inside
from shared.protocol import InvalidArgument

__all__ = ["set_sysctls"]

ROOT = Path("/proc/sys")
LINK = "IFNAME"  # what stands for the link's name


def set_sysctls(lease: Lease) -> None:
    """Set what is asked of a container's link. Idempotent. Errors: InvalidArgument (the kernel refuses one)."""
    if not lease.sysctls:
        return

    def write() -> None:
        for name, value in lease.sysctls.items():
            parts = [lease.interface.name if part == LINK else part for part in name.split(".")]
            try:
                ROOT.joinpath(*parts).write_text(value)
            except OSError as error:
                raise InvalidArgument(f"failed to set sysctl {'.'.join(parts)}={value}: {error.strerror}") from error

    inside(Path(lease.interface.netns), write)
