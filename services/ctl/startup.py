"""Start-up checks: what must be right before anything runs, in the order of the 2014 daemon.

Its first, the contradictions between settings, are `Config`'s own. Each check returns, or raises with one line:
StartError (the host, exit status 1) or ConfigError (a setting, named; exit status 78).
"""

from __future__ import annotations

import fcntl
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from services.ctl.doctor import first_problem
from services.ctl.places import ROOT_LOCK, check_places
from shared.runtime.config import RUNTIMES, Config, ConfigError, label_warnings
from shared.runtime.slices import BOOTED, choose

__all__ = ["CHECKS", "MUST_BE_ROOT", "REPEATED_CHECKS", "ROOT_LOCK", "RUN_LOCK", "StartError", "check", "take_lock"]

RUN_LOCK = "stack.lock"  # a file in the run directory

MIN_KERNEL = (5, 6)  # openat2(2)
MACHINES = ("x86_64", "aarch64")  # those that the seccomp profile knows
MUST_BE_ROOT = "dockyard needs to be run as root"
log = logging.getLogger("dockyard.arbiter")


class StartError(Exception):
    """This host, as it is, cannot run the stack; the message is one line."""


def take_lock(path: Path) -> int | None:
    """Take a lock, held as long as the process lives; None if another stack has it. Errors: OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _claim_root(config: Config) -> None:
    """The root is a directory that no other stack runs on: its lock decides, for a pid may be another program's."""
    _claim("root", config.root, 0o710, ROOT_LOCK, "runs on")


def _claim_run(config: Config) -> None:
    """The run directory is one in which no other stack has its sockets."""
    _claim("run", config.run, 0o711, RUN_LOCK, "has its sockets in")


def _claim(setting: str, directory: Path, mode: int, lock: str, what: str) -> None:
    try:
        directory.mkdir(mode=mode, parents=True, exist_ok=True)
        descriptor = take_lock(directory / lock)
    except PermissionError as error:
        raise StartError(MUST_BE_ROOT if os.geteuid() else f"{error.filename}: {error.strerror}") from None
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"{setting}: {directory} is not a directory") from None
    except OSError as error:
        raise ConfigError(f"{setting}: {error.filename}: {error.strerror}") from None
    if descriptor is None:
        raise StartError(f"another dockyard stack {what} {directory}")


def _places(config: Config) -> None:
    """The two directories are for a stack alone."""
    check_places(config)


def _system(config: Config) -> None:
    """The system is Linux."""
    if sys.platform != "linux":
        raise StartError("dockyard is only supported on linux")


def _user(config: Config) -> None:
    """The user is root."""
    if os.geteuid() != 0:
        raise StartError(MUST_BE_ROOT)


def _architecture(config: Config) -> None:
    """The processor is one that the seccomp profile knows."""
    if platform.machine() not in MACHINES:
        raise StartError(f"dockyard supports {' and '.join(MACHINES)}, not {platform.machine()}")


def _kernel(config: Config) -> None:
    """The kernel is new enough; else there is a warning, for a distribution's old kernel may have what is needed."""
    found = re.match(r"(\d+)\.(\d+)", platform.release())
    if found and (int(found[1]), int(found[2])) < MIN_KERNEL and not config.nowarn_kernel_version:
        wanted = ".".join(map(str, MIN_KERNEL))
        log.warning("kernel older than %s, things may fail kernel=%s", wanted, platform.release())


def _host(config: Config) -> None:
    """The host has the programs, libraries and kernel parts that `dockyard doctor` lists."""
    problem = first_problem(firewall=config.firewall)
    if problem is not None:
        raise StartError(f"{problem}; `dockyard doctor` prints the whole list")


def _temporary(config: Config) -> None:
    """The directory for temporary files can be made."""
    if config.tmpdir is None:
        shutil.rmtree(config.temporary, ignore_errors=True)
    try:
        config.temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"tmpdir: {config.temporary}: {error.strerror}") from None


def _named_temporary(config: Config) -> None:
    """A directory for temporary files that was named can be made; nothing in it is touched."""
    if config.tmpdir is not None:
        _temporary(config)


def _named_pidfile(config: Config) -> None:
    """A file for the pid that was named can be written; what is in it stays."""
    if config.pidfile is None:
        return
    is_there = config.pidfile.exists()
    try:
        config.pidfile.open("a").close()
        if not is_there:
            config.pidfile.unlink()
    except OSError as error:
        raise ConfigError(f"pidfile: {config.pidfile}: {error.strerror}") from None


def _selinux(config: Config) -> None:
    """Who asks for SELinux labels is told that there are none, here and in `info`."""
    for warning in label_warnings(config):
        log.warning("%s", warning)


def _storage(config: Config) -> None:
    """A storage driver that was named works; without a name it is overlay, or else vfs."""
    if config.storage_driver != "overlay":
        return
    options = [option.removeprefix("overlay.") for option in config.storage_opt]
    there = next(path for path in (config.root, *config.root.parents) if path.is_dir())
    with tempfile.TemporaryDirectory(dir=there, prefix="trial") as trial:
        paths = {name: Path(trial, name) for name in ("lowerdir", "upperdir", "workdir")}
        for path in paths.values():
            path.mkdir()
        layers = ",".join([*(f"{name}={path}" for name, path in paths.items()), *options])
        # in a mount namespace of its own, so that nothing stays
        command = ["unshare", "--mount", "mount", "-t", "overlay", "-o", layers, "overlay", trial]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        why = (answer.stderr.strip().splitlines() or ["mount failed"])[0].removeprefix(f"mount: {trial}: ")
        raise ConfigError(f"storage-driver: overlay does not work in {config.root}: {why}")


def _cgroups(config: Config) -> None:
    """systemd runs here, if it is to have the containers' scopes."""
    if config.cgroup_driver == "systemd" and not BOOTED.is_dir():
        raise ConfigError("cgroup-driver: systemd does not run here; cgroupfs needs nobody")


def _exec_driver(config: Config) -> None:
    """The exec driver is known, and installed."""
    if Path(config.exec_driver).name not in RUNTIMES:
        raise ConfigError(f"exec-driver: unknown exec driver {config.exec_driver}")
    if shutil.which(config.exec_driver) is None:
        raise ConfigError(f"exec-driver: {config.exec_driver} is not installed")


CHECKS: tuple[Callable[[Config], None], ...] = (
    _places,
    _claim_root,
    _claim_run,
    _system,
    _user,
    _architecture,
    _kernel,
    _host,
    _temporary,
    _selinux,
    _storage,
    _exec_driver,
    _cgroups,
)

# beside a stack that runs: its directories are its own, and its temporary files are in use
REPEATED_CHECKS = (
    *(one for one in CHECKS if one not in (_claim_root, _claim_run, _temporary)),
    _named_temporary,
    _named_pidfile,
)


def check(config: Config, checks: Iterable[Callable[[Config], None]] = CHECKS) -> Config:
    """Carry out all checks; returns the configuration with its root's real path, and cgroups chosen.

    Errors: StartError, ConfigError.
    """
    driver, parent = choose(config.cgroup_driver, config.cgroup_parent)
    root = Path(os.path.realpath(config.root))
    config = replace(config, root=root, cgroup_driver=driver, cgroup_parent=parent)
    for one in checks:
        one(config)
    return config
