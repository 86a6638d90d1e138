"""Security options and capabilities, as HostConfig spells them."""

from __future__ import annotations

from msgspec import field

from shared.protocol.errors import InvalidArgument
from shared.protocol.job import Data

__all__ = ["CAPABILITIES", "SecurityOptions", "capability_names", "parse_security_options"]

# in the order of their numbers (capabilities(7))
CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP "
    "MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
TRUE, FALSE = ("1", "t", "true"), ("0", "f", "false")


class SecurityOptions(Data, frozen=True):
    """``seccomp``: empty for the default, ``builtin``, ``unconfined``, or a profile as JSON."""

    seccomp: str = ""
    apparmor: str = ""
    labels: list[str] = field(default_factory=list)
    no_new_privileges: bool = False
    system_paths_unconfined: bool = False


def parse_security_options(options: list[str]) -> SecurityOptions:
    """Parse ``NAME=VALUE`` (of old also ``NAME:VALUE``). Errors: InvalidArgument (unknown, or no such value)."""
    values: dict[str, str] = {}
    labels = []
    for option in options:
        name, separator, value = option.partition("=" if "=" in option else ":")
        if option in ("no-new-privileges", "disable"):
            name, value = ("label", option) if option == "disable" else (option, "true")
        elif not separator:
            raise InvalidArgument(f'invalid --security-opt 1: "{option}"')
        if name == "label":
            labels.append(value)
        elif not _is_valid(name, value):
            raise InvalidArgument(f'invalid --security-opt 2: "{option}"')
        values[name] = value
    return SecurityOptions(
        seccomp=values.get("seccomp", ""),
        apparmor=values.get("apparmor", ""),
        labels=labels,
        no_new_privileges=values.get("no-new-privileges", "false").lower() in TRUE,
        system_paths_unconfined="systempaths" in values,
    )


def _is_valid(name: str, value: str) -> bool:
    if name == "no-new-privileges":
        return value.lower() in TRUE + FALSE
    return name in ("seccomp", "apparmor") or (name, value) == ("systempaths", "unconfined")


def capability_names(given: list[str]) -> set[str]:
    """Return names without ``CAP_``, in capitals; ``ALL`` among them if it was. Errors: InvalidArgument (unknown)."""
    names = {name.upper().removeprefix("CAP_") for name in given}
    for name in sorted(names - {*CAPABILITIES, "ALL"}):
        raise InvalidArgument(f'unknown capability: "CAP_{name}"')
    return names
