"""Capabilities: the default set and what CapAdd, CapDrop and Privileged make of it (capabilities(7))."""

from __future__ import annotations

from pathlib import Path

from shared.protocol import CAPABILITIES, capability_names

__all__ = ["capabilities"]

DEFAULT = (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
    "AUDIT_WRITE"
).split()


def capabilities(add: list[str], drop: list[str], *, privileged: bool) -> list[str]:
    """Return the names with ``CAP_``, in the order of their numbers. Errors: InvalidArgument (unknown name).

    What this host's own bounding set lacks cannot be given, and is left out of "all".
    """
    possible = [name for number, name in enumerate(CAPABILITIES) if _bounding_set() >> number & 1]
    if privileged:
        return [f"CAP_{name}" for name in possible]
    added, dropped = capability_names(add), capability_names(drop)
    wanted = set(possible) if "ALL" in added else set(DEFAULT)
    if "ALL" in dropped:
        wanted = set(possible) & added if "ALL" not in added else set(possible)
    wanted = (wanted | added) - dropped - {"ALL"}
    return [f"CAP_{name}" for name in CAPABILITIES if name in wanted]


def _bounding_set() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return int(line.split()[1], 16)
    return 0
