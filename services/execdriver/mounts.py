"""Mounts of a container (OCI runtime-spec 1.1 §config, §config-linux)."""

from __future__ import annotations

import itertools
import os
import platform
import posixpath
import shutil
import stat
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from services.execdriver.rootfs import ensure_directory
from shared.protocol import HostConfig, InvalidArgument, MountPoint, NotImplementedByUs, RuntimeStart
from shared.runtime.mountinfo import mount_of

__all__ = ["INIT_TARGET", "masked_paths", "mounts", "readonly_paths", "wants_init"]

MASKED_PATHS = [
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
    "/sys/firmware",
]  # fmt: skip
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
TMPFS = ("noexec", "nosuid", "nodev")
CONTRARY = {"exec": "noexec", "suid": "nosuid", "dev": "nodev", "rw": "ro"}
INHERITED = {os.ST_RDONLY: "ro", os.ST_NOSUID: "nosuid", os.ST_NODEV: "nodev", os.ST_NOEXEC: "noexec"}
MOUNT_SETATTR = (5, 12)  # the Linux that has it
NEW_TMPFS = 0o1777  # the mode of a tmpfs that has none (tmpfs(5))
CRUN_MADE = stat.S_ISVTX | stat.S_IWOTH  # directories that crun made at an earlier start are sticky, and not for others
INIT_TARGET = "/sbin/docker-init"

Mount = dict[str, Any]


def mounts(job: RuntimeStart, shm: str = "") -> list[Mount]:
    """Return OCI ``mounts`` in the order in which they are made. ``shm``: what is /dev/shm, if not a new tmpfs."""
    host_config = job.host_config
    asked = [*_files(job), *_tmpfs(host_config), *(_of_point(point) for point in job.mounts)]
    if wants_init(host_config):
        asked.append(_bind(init_program(), INIT_TARGET, ["ro"]))
    asked.sort(key=lambda mount: len(PurePosixPath(mount["destination"]).parts))  # /a before what goes onto /a/b
    _take_modes(job.rootfs, asked)
    made = [*_system_mounts(host_config), *_shm(host_config, shm), *asked]
    last = {mount["destination"]: index for index, mount in enumerate(made)}
    return [mount for index, mount in enumerate(made) if last[mount["destination"]] == index]


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
        _mount("tmpfs", "tmpfs", "/" + posixpath.normpath(target).lstrip("/"), _tmpfs_options(options.split(",")))
        for target, options in (host_config.tmpfs or {}).items()
    ]


def _tmpfs_options(given: list[str]) -> list[str]:
    """Lay options over the defaults; the last of two that contradict each other holds (crun would keep noexec)."""
    made: dict[str, str] = {}
    for option in (*TMPFS, *filter(None, given)):
        made[CONTRARY.get(option, option.partition("=")[0])] = option
    return list(made.values())


def _take_modes(rootfs: str, asked: list[Mount]) -> None:
    """Give each tmpfs the mode of the directory below it, if no other is asked for, as runc does.

    crun would take 1777 for all. Where there is no directory one of that mode is made: the next start finds it.
    """
    places = {PurePosixPath(mount["destination"]) for mount in asked}
    for mount in asked:
        place, options = mount["destination"], mount["options"]
        if mount["type"] != "tmpfs" or any(option.startswith("mode=") for option in options):
            continue
        if places.isdisjoint(PurePosixPath(place).parents):
            with suppress(OSError):  # the runtime will say what is in the way
                mode = ensure_directory(Path(rootfs), place, NEW_TMPFS)
                if mode & CRUN_MADE != stat.S_ISVTX:
                    options.append(f"mode={mode:04o}")


def _of_point(point: MountPoint) -> Mount:
    if point.type == "tmpfs":
        options = _tmpfs_options(["rw" if point.writable else "ro", *point.options])
        return _mount("tmpfs", "tmpfs", point.destination, options)
    if point.type == "bind":
        _find_source(point)
        _check_propagation(point)
    propagation = point.propagation or "rprivate"
    options = [propagation, *_access(point), *_inherited(point.source)]
    if point.recursive:
        return _bind(point.source, point.destination, options)
    options[0] = propagation.removeprefix("r")  # crun takes that r to mean all that is mounted below
    return _mount("bind", point.source, point.destination, ["bind", *options])


def _find_source(point: MountPoint) -> None:
    """Make a directory where a bind's source is missing, if it may be made."""
    source = Path(point.source)
    if os.access(source, os.F_OK):
        return
    if not point.create_source:
        raise InvalidArgument(f'invalid mount config for type "bind": bind source path does not exist: {source}')
    try:
        for directory in (*reversed(source.parents), source):
            if not os.access(directory, os.F_OK):
                directory.mkdir()
                directory.chmod(0o755)  # whatever our umask
    except OSError as error:
        raise InvalidArgument(f"error while creating mount source path '{source}': {error.strerror}") from error


def _check_propagation(point: MountPoint) -> None:
    """Mounts can be passed on only from where they are shared, and received only from there or from a slave of it."""
    kind = point.propagation.removeprefix("r")
    if kind not in ("shared", "slave"):
        return
    mount = mount_of(Path(point.source))
    if not mount.tags & {"shared", "master" if kind == "slave" else "shared"}:
        wanted = "shared or slave" if kind == "slave" else "shared"
        raise InvalidArgument(f"path {point.source} is mounted on {mount.point} but it is not a {wanted} mount")


def _access(point: MountPoint) -> list[str]:
    """Return ro; or rro, with all that is mounted below, which the kernel can since 5.12."""
    if point.writable:
        return []
    below = point.recursive and Path(point.source).is_dir()  # at a file crun refuses rro
    if not below or point.recursive_read_only is False:
        return ["ro"]
    if kernel_version() >= MOUNT_SETATTR:
        return ["rro"]
    if point.recursive_read_only:
        raise InvalidArgument("recursively read-only mounts need Linux 5.12")
    return ["ro"]


def _inherited(source: str) -> list[str]:
    """Return the flags of the mount that a source is on: crun 1.8 would drop them."""
    flags = os.statvfs(source).f_flag
    return [name for flag, name in INHERITED.items() if flags & flag]


def kernel_version() -> tuple[int, int]:
    major, minor = platform.release().split(".")[:2]
    return int(major), int("".join(itertools.takewhile(str.isdigit, minor)))


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
