"""config.json: from a RuntimeStart to an OCI runtime configuration (runtime-spec 1.1)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from services.execdriver.bpf import ANNOTATION, compile_filter
from services.execdriver.bundle import Start
from services.execdriver.capabilities import capabilities
from services.execdriver.devices import devices
from services.execdriver.mounts import INIT_TARGET, masked_paths, mounts, readonly_paths, wants_init
from services.execdriver.seccomp import seccomp_profile
from shared.protocol import HostConfig, MountPoint, RuntimeStart, SecurityOptions, parse_security_options
from shared.runtime.user import User

__all__ = ["build_spec", "environment", "identity"]

OCI_VERSION = "1.0.2"
NETWORK_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
APPARMOR = Path("/sys/module/apparmor/parameters/enabled")
ROOTFS_PROPAGATION = {"shared": "rshared", "slave": "rslave"}


def build_spec(job: RuntimeStart, user: User, start: Start, joined: dict[str, str] | None = None) -> dict[str, Any]:
    """Build the configuration; a function of its arguments (and of this host's devices and capabilities).

    ``joined``: kind → path of other containers' namespaces. Errors: InvalidArgument (it names what was asked).
    """
    host_config = job.host_config
    options = parse_security_options(host_config.security_opt or [])
    granted = capabilities(host_config.cap_add or [], host_config.cap_drop or [], privileged=host_config.privileged)
    nodes, device_rules = devices(host_config)
    linux = {
        "cgroupsPath": start.cgroup,
        "devices": nodes,
        "namespaces": _namespaces(job, joined or {}),
        "resources": {"devices": device_rules},  # the limits are written by `services.execdriver.resources`
        "maskedPaths": masked_paths(host_config),
        "readonlyPaths": readonly_paths(host_config),
        "sysctl": _sysctls(job),
    }
    if propagation := _propagation(job.mounts):
        linux["rootfsPropagation"] = propagation
    profile = seccomp_profile(options.seccomp, granted, privileged=host_config.privileged)
    annotations = dict(host_config.annotations or {})
    if profile is not None:
        linux["seccomp"] = profile
        if compiled := compile_filter(profile):
            annotations[ANNOTATION] = compiled
    uts_is_ours = host_config.uts_mode != "host"
    spec = {
        "ociVersion": OCI_VERSION,
        "process": _process(job, user, granted, options),
        "root": {"path": job.rootfs, "readonly": host_config.readonly_rootfs},
        "hostname": job.config.hostname if uts_is_ours else "",
        "domainname": job.config.domainname if uts_is_ours else "",
        "mounts": mounts(job, start.shm),
        "annotations": annotations,
        "linux": linux,
    }
    return {key: value for key, value in spec.items() if value not in ("", {})}


def _process(job: RuntimeStart, user: User, granted: list[str], options: SecurityOptions) -> dict[str, Any]:
    config = job.config
    args = [INIT_TARGET, "--", *job.args] if wants_init(job.host_config) else job.args
    process = {
        "terminal": config.tty,
        **identity(user, granted),
        "args": args,
        "env": environment(config.env or [], config.hostname, user, tty=config.tty),
        "cwd": config.working_dir or "/",
        "rlimits": _rlimits(job.host_config),
        "noNewPrivileges": options.no_new_privileges,
    }
    if options.apparmor not in ("", "unconfined") and has_apparmor():
        process["apparmorProfile"] = options.apparmor
    if job.host_config.oom_score_adj:
        process["oomScoreAdj"] = job.host_config.oom_score_adj
    if config.tty and len(job.host_config.console_size or []) == 2 and any(job.host_config.console_size or []):
        height, width = job.host_config.console_size or [0, 0]
        process["consoleSize"] = {"height": height, "width": width}
    return process


def _rlimits(host_config: HostConfig) -> list[dict[str, Any]]:
    """-1 is no limit, which the OCI configuration has as the greatest of 64 bits."""
    return [
        {"type": f"RLIMIT_{limit.name.upper()}", "soft": limit.soft % 2**64, "hard": limit.hard % 2**64}
        for limit in host_config.ulimits or []
    ]


def identity(user: User, granted: list[str]) -> dict[str, Any]:
    """Return who a process is, and what it may. ``granted``: its capabilities, as far as its user lets it use them."""
    # with a user other than root the kernel would drop the effective set; ambient stays empty as Docker has it
    usable = granted if user.uid == 0 else []
    return {
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.additional_gids},
        "capabilities": {"bounding": granted, "effective": usable, "permitted": usable},
    }


def environment(given: list[str], hostname: str, user: User, *, tty: bool) -> list[str]:
    """Add what Docker adds where it is not given: HOSTNAME, TERM with a terminal, HOME.

    A name without ``=`` is given too: the process has no such variable. An empty HOME is none, as runc has it.
    """
    given = [entry for entry in given if entry != "HOME="]
    names = {entry.partition("=")[0] for entry in given}
    added = {"HOSTNAME": hostname, "TERM": "xterm" if tty else "", "HOME": user.home}
    given = [entry for entry in given if "=" in entry]
    return given + [f"{name}={value}" for name, value in added.items() if value and name not in names]


def _namespaces(job: RuntimeStart, joined: dict[str, str]) -> list[dict[str, str]]:
    """``joined``: the namespaces of other containers, kind → path."""
    host_config, interface = job.host_config, job.interface
    made = [{"type": "mount"}]
    for kind, mode in (
        ("pid", host_config.pid_mode),
        ("ipc", host_config.ipc_mode),
        ("uts", host_config.uts_mode),
        ("cgroup", host_config.cgroupns_mode),
        ("network", interface.mode),
    ):
        path = joined.get(kind, interface.netns if kind == "network" else "")
        if mode != "host":
            made.append({"type": kind, "path": path} if path else {"type": kind})
    return made


def _sysctls(job: RuntimeStart) -> dict[str, str]:
    """A network of its own lets any user bind any port and send pings, as Docker has it; what was asked for wins."""
    own = {} if job.interface.mode in ("host", "container") else NETWORK_SYSCTLS
    return {**own, **(job.host_config.sysctls or {})}


def has_apparmor() -> bool:
    return APPARMOR.exists() and APPARMOR.read_text().startswith("Y")


def _propagation(mounts: list[MountPoint]) -> str:
    """A shared or slave bind needs the root to be so too."""
    asked = {point.propagation.removeprefix("r") for point in mounts}
    return next((propagation for kind, propagation in ROOTFS_PROPAGATION.items() if kind in asked), "")
