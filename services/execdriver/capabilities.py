"""Capabilities: the default set and what CapAdd, CapDrop and Privileged make of it (capabilities(7))."""

from __future__ import annotations

from pathlib import Path

from shared.protocol import InvalidArgument

__all__ = ["capabilities"]

# in the order of their numbers
ALL = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP "
    "MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
DEFAULT = (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
    "AUDIT_WRITE"
).split()


def capabilities(add: list[str], drop: list[str], *, privileged: bool) -> list[str]:
    """Return the names with ``CAP_``, in the order of their numbers. Errors: InvalidArgument (unknown name).

    What this host's own bounding set lacks cannot be given, and is left out of "all".
    """
    possible = [name for number, name in enumerate(ALL) if _bounding_set() >> number & 1]
    if privileged:
        return [f"CAP_{name}" for name in possible]
    added, dropped = _names(add), _names(drop)
    wanted = set(possible) if "ALL" in added else set(DEFAULT)
    if "ALL" in dropped:
        wanted = set(possible) & added if "ALL" not in added else set(possible)
    wanted = (wanted | added) - dropped - {"ALL"}
    return [f"CAP_{name}" for name in ALL if name in wanted]


def _names(given: list[str]) -> set[str]:
    names = {name.upper().removeprefix("CAP_") for name in given}
    for name in names - {*ALL, "ALL"}:
        raise InvalidArgument(f"invalid capability: CAP_{name}")
    return names


def _bounding_set() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return int(line.split()[1], 16)
    return 0
