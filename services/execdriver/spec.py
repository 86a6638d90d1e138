"""config.json: from a RuntimeStart to an OCI runtime configuration (runtime-spec 1.1)."""

from __future__ import annotations

from typing import Any

from services.execdriver.bpf import ANNOTATION, compile_filter
from services.execdriver.capabilities import capabilities
from services.execdriver.mounts import INIT_TARGET, devices, masked_paths, mounts, readonly_paths
from services.execdriver.resources import resources, rlimits
from services.execdriver.seccomp import seccomp_profile
from shared.protocol import HostConfig, InvalidArgument, MountPoint, NotImplementedByUs, RuntimeStart
from shared.runtime.user import User

__all__ = ["build_spec", "environment", "identity"]

OCI_VERSION = "1.0.2"
ROOTFS_PROPAGATION = {"shared": "rshared", "slave": "rslave"}


def build_spec(job: RuntimeStart, user: User, cgroup_path: str) -> dict[str, Any]:
    """Build the configuration; a function of its arguments (and of this host's devices and capabilities).

    Errors: InvalidArgument, NotImplementedByUs (each names what was asked).
    """
    host_config = job.host_config
    options = _security_options(host_config)
    granted = capabilities(host_config.cap_add or [], host_config.cap_drop or [], privileged=host_config.privileged)
    nodes, device_rules = devices(host_config)
    linux = {
        "cgroupsPath": cgroup_path,
        "devices": nodes,
        "namespaces": _namespaces(job),
        "resources": resources(host_config, device_rules),
        "maskedPaths": masked_paths(host_config),
        "readonlyPaths": readonly_paths(host_config),
        "sysctl": host_config.sysctls or {},
    }
    if propagation := _propagation(job.mounts):
        linux["rootfsPropagation"] = propagation
    profile = seccomp_profile(options["seccomp"], granted, privileged=host_config.privileged)
    annotations = dict(host_config.annotations or {})
    if profile is not None:
        linux["seccomp"] = profile
        if compiled := compile_filter(profile):
            annotations[ANNOTATION] = compiled
    uts_is_ours = host_config.uts_mode != "host"
    spec = {
        "ociVersion": OCI_VERSION,
        "process": _process(job, user, granted, no_new_privileges=options["no-new-privileges"] == "true"),
        "root": {"path": job.rootfs, "readonly": host_config.readonly_rootfs},
        "hostname": job.config.hostname if uts_is_ours else "",
        "domainname": job.config.domainname if uts_is_ours else "",
        "mounts": mounts(job),
        "annotations": annotations,
        "linux": linux,
    }
    return {key: value for key, value in spec.items() if value not in ("", {})}


def _process(job: RuntimeStart, user: User, granted: list[str], *, no_new_privileges: bool) -> dict[str, Any]:
    config = job.config
    args = [INIT_TARGET, "--", *job.args] if job.host_config.init else job.args
    process = {
        "terminal": config.tty,
        **identity(user, granted),
        "args": args,
        "env": environment(config.env or [], config.hostname, user, tty=config.tty),
        "cwd": config.working_dir or "/",
        "rlimits": rlimits(job.host_config),
        "noNewPrivileges": no_new_privileges,
    }
    if job.host_config.oom_score_adj:
        process["oomScoreAdj"] = job.host_config.oom_score_adj
    if config.tty and len(job.host_config.console_size or []) == 2 and any(job.host_config.console_size or []):
        height, width = job.host_config.console_size or [0, 0]
        process["consoleSize"] = {"height": height, "width": width}
    return process


def identity(user: User, granted: list[str]) -> dict[str, Any]:
    """Return who a process is, and what it may. ``granted``: its capabilities, as far as its user lets it use them."""
    # with a user other than root the kernel would drop the effective set; ambient stays empty as Docker has it
    usable = granted if user.uid == 0 else []
    return {
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.additional_gids},
        "capabilities": {"bounding": granted, "effective": usable, "permitted": usable},
    }


def environment(given: list[str], hostname: str, user: User, *, tty: bool) -> list[str]:
    """Add what Docker adds where it is not given: HOSTNAME, TERM with a terminal, HOME."""
    names = {entry.partition("=")[0] for entry in given}
    added = {"HOSTNAME": hostname, "TERM": "xterm" if tty else "", "HOME": user.home}
    return given + [f"{name}={value}" for name, value in added.items() if value and name not in names]


def _namespaces(job: RuntimeStart) -> list[dict[str, str]]:
    host_config, made = job.host_config, [{"type": "mount"}]
    for kind, mode in (
        ("pid", host_config.pid_mode),
        ("ipc", host_config.ipc_mode),
        ("uts", host_config.uts_mode),
        ("cgroup", host_config.cgroupns_mode),
    ):
        if mode in ("", "private", "shareable", "none"):
            made.append({"type": kind})
        elif mode != "host":
            raise NotImplementedByUs(f"{kind} namespace mode {mode!r} is not implemented")
    if job.interface.mode != "host":
        made.append({"type": "network", "path": job.interface.netns})
    return made


def _security_options(host_config: HostConfig) -> dict[str, str]:
    """Parse SecurityOpt. Errors: InvalidArgument (unknown), NotImplementedByUs (AppArmor and SELinux profiles)."""
    options = {"seccomp": "", "no-new-privileges": "false"}
    for option in host_config.security_opt or []:
        name, _, value = option.partition("=" if "=" in option else ":")
        if name == "seccomp":
            options["seccomp"] = value
        elif name == "no-new-privileges":
            options[name] = "true" if value in ("", "true") else "false"
        elif (name in ("apparmor", "label") and value not in ("unconfined", "disable", "")) or name == "credentialspec":
            raise NotImplementedByUs(f"security option {option!r} is not implemented")
        elif name not in ("apparmor", "label", "systempaths"):
            raise InvalidArgument(f'invalid --security-opt 2: "{option}"')
    return options


def _propagation(mounts: list[MountPoint]) -> str:
    """A shared or slave bind needs the root to be so too."""
    asked = {point.propagation.removeprefix("r") for point in mounts}
    return next((propagation for kind, propagation in ROOTFS_PROPAGATION.items() if kind in asked), "")
