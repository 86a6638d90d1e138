"""Mounts of a container (OCI runtime-spec 1.1 §config, §config-linux)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from shared.protocol import HostConfig, InvalidArgument, NotImplementedByUs, RuntimeStart

__all__ = ["INIT_TARGET", "masked_paths", "mounts", "readonly_paths", "wants_init"]

MASKED_PATHS = [
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
    "/sys/firmware",
]  # fmt: skip
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
INIT_TARGET = "/sbin/docker-init"

Mount = dict[str, Any]


def mounts(job: RuntimeStart, shm: str = "") -> list[Mount]:
    """Return OCI ``mounts`` in the order in which they are made. ``shm``: what is /dev/shm, if not a new tmpfs."""
    host_config = job.host_config
    made = [*_system_mounts(host_config), *_shm(host_config, shm), *_files(job), *_tmpfs(host_config)]
    if wants_init(host_config):
        made.append(_bind(init_program(), INIT_TARGET, ["ro"]))
    made += [_parse_bind(bind) for bind in host_config.binds or []]
    for mount in host_config.mounts or []:
        if mount.type == "tmpfs":
            given = mount.tmpfs_options or {}
            options = [f"size={given['SizeBytes']}"] if given.get("SizeBytes") else []
            options += [f"mode={given['Mode']:o}"] if given.get("Mode") else []
            made.append(_mount("tmpfs", "tmpfs", mount.target, ["nosuid", "nodev", "noexec", *options]))
        elif mount.type == "bind":
            made.append(_mount_of_type_bind(mount))
        else:
            raise NotImplementedByUs(f"mounts of type {mount.type!r} are not implemented")
    targets = [mount["destination"] for mount in made]
    last = {target: index for index, target in enumerate(targets)}
    return [mount for index, mount in enumerate(made) if last[targets[index]] == index]


def _mount(kind: str, source: str, target: str, options: list[str]) -> Mount:
    return {"destination": target, "type": kind, "source": source, "options": options}


def _bind(source: str, target: str, options: list[str]) -> Mount:
    return _mount("bind", source, target, ["rbind", *options])


def _system_mounts(host_config: HostConfig) -> list[Mount]:
    """The mounts of wire-details §13; privileged containers get /sys and cgroups writable."""
    access = "rw" if host_config.privileged else "ro"
    return [
        _mount("proc", "proc", "/proc", ["nosuid", "noexec", "nodev"]),
        _mount("tmpfs", "tmpfs", "/dev", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount("devpts", "devpts", "/dev/pts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5".split()),
        _mount("sysfs", "sysfs", "/sys", ["nosuid", "noexec", "nodev", access]),
        _mount("cgroup", "cgroup", "/sys/fs/cgroup", ["nosuid", "noexec", "nodev", "relatime", access]),
        _mount("mqueue", "mqueue", "/dev/mqueue", ["nosuid", "noexec", "nodev"]),
    ]  # fmt: skip


def _shm(host_config: HostConfig, place: str) -> list[Mount]:
    """See `services.execdriver.shm`."""
    if place:
        return [_bind(place, "/dev/shm", ["rw", "nosuid", "nodev", *([] if place == "/dev/shm" else ["noexec"])])]
    if host_config.ipc_mode == "none":
        return []
    options = ["nosuid", "noexec", "nodev", "mode=1777", f"size={host_config.shm_size}"]
    return [_mount("tmpfs", "shm", "/dev/shm", options)]


def _files(job: RuntimeStart) -> list[Mount]:
    directory = Path(job.directory)
    options = ["rprivate", "ro"] if job.host_config.readonly_rootfs else ["rprivate"]
    return [_bind(str(directory / name), f"/etc/{name}", options) for name in ("resolv.conf", "hostname", "hosts")]


def _tmpfs(host_config: HostConfig) -> list[Mount]:
    return [
        _mount("tmpfs", "tmpfs", target, _tmpfs_options(options))
        for target, options in (host_config.tmpfs or {}).items()
    ]


def _tmpfs_options(asked: str) -> list[str]:
    """Lay what was asked for over the defaults: ``exec`` cancels ``noexec``."""
    words = [word for word in asked.split(",") if word]
    return [word for word in ("noexec", "nosuid", "nodev") if word.removeprefix("no") not in words] + words


def _parse_bind(bind: str) -> Mount:
    """Parse ``source:target[:options]``; a source that is not there is made a directory, as Docker does."""
    parts = bind.split(":")
    if len(parts) not in (2, 3) or not parts[0].startswith("/") or not parts[1].startswith("/"):
        raise InvalidArgument(f"invalid volume specification: '{bind}'")
    source, target = parts[0], parts[1]
    words = [word for word in (parts[2].split(",") if len(parts) == 3 else []) if word]
    for word in words:
        if word not in ("ro", "rw", "z", "Z", "nocopy", *PROPAGATIONS):
            raise InvalidArgument(f"invalid mode: {word}")
    if not os.path.lexists(source):
        Path(source).mkdir(parents=True)
    return _bind(source, target, [_propagation(words), "ro" if "ro" in words else "rw"])


def _propagation(words: list[str]) -> str:
    return next((word for word in words if word in PROPAGATIONS), "rprivate")


def _mount_of_type_bind(mount: Any) -> Mount:
    if not Path(mount.source).exists():
        raise InvalidArgument(f'invalid mount config for type "bind": bind source path does not exist: {mount.source}')
    options = mount.bind_options or {}
    words = [_propagation([options.get("Propagation") or "rprivate"]), "ro" if mount.read_only else "rw"]
    made = _bind(mount.source, mount.target, words)
    if options.get("NonRecursive"):
        made["options"][0] = "bind"
    return made


def wants_init(host_config: HostConfig) -> bool:
    """Say whether a container gets an init; where another process is the first of its pid namespace, that one reaps."""
    return bool(host_config.init) and not host_config.pid_mode


def init_program() -> str:
    """Return the path of tini. Errors: NotImplementedByUs (the host has none)."""
    path = shutil.which("docker-init") or shutil.which("tini-static") or shutil.which("tini")
    if path is None:
        raise NotImplementedByUs("--init needs the package tini on the host")
    return path


def masked_paths(host_config: HostConfig) -> list[str]:
    return _paths(host_config, host_config.masked_paths, MASKED_PATHS)


def readonly_paths(host_config: HostConfig) -> list[str]:
    return _paths(host_config, host_config.readonly_paths, READONLY_PATHS)


def _paths(host_config: HostConfig, given: list[str] | None, default: list[str]) -> list[str]:
    if given is not None:
        return given
    unconfined = host_config.privileged or "systempaths=unconfined" in (host_config.security_opt or [])
    return [] if unconfined else default
