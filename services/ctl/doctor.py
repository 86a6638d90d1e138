"""`dockyard doctor`: what this host has and what it lacks, and how to get it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.runtime.config import RUNTIMES

__all__ = ["Finding", "examine", "first_problem"]

PROGRAMS = {"conmon": "conmon", "nft": "nftables"}  # program → Debian package
LIBRARIES = {"libnftables.so.1": "libnftables1"}
FILE_SYSTEMS = {"overlay": "layers are copied instead (storage driver vfs)"}


@dataclass(frozen=True)
class Finding:
    what: str
    ok: bool
    remedy: str = ""
    needed: bool = True


def examine(*, firewall: bool = True) -> Iterator[Finding]:
    """Yield what is looked at, one after the other. ``firewall``: whether we are to have rules of our own."""
    yield from _needed(firewall)
    yield Finding(
        "program busybox (static)", _is_static("/bin/busybox"), "apt-get install busybox-static", needed=False
    )
    yield Finding(
        "program tini (for --init)", _has("docker-init", "tini-static", "tini"), "apt-get install tini", False
    )
    yield Finding("program ps (for docker top)", _has("ps"), "apt-get install procps", False)
    yield Finding("program docker (the CLI)", _has("docker"), "apt-get install docker-cli (or docker.io)", False)


def _needed(firewall: bool) -> Iterator[Finding]:
    """All without which nothing runs, and kernel modules, which are loaded on the way."""
    version = sys.version_info
    yield Finding(f"Python {version.major}.{version.minor}", version >= (3, 11), "Python 3.11 or newer is needed")
    yield Finding("root", os.geteuid() == 0, "run it as root: containers need it")
    yield Finding("OCI runtime (crun or runc)", _has(*RUNTIMES), "apt-get install crun")
    for program, package in PROGRAMS.items():
        yield Finding(f"program {program}", shutil.which(program) is not None, f"apt-get install {package}")
    for library, package in LIBRARIES.items():
        yield Finding(f"library {library}", _has_library(library), f"apt-get install {package}")
    for name, consequence in FILE_SYSTEMS.items():
        yield Finding(f"kernel: {name}", _has_file_system(name), f"modprobe {name}; without it {consequence}", False)
    for kind in ("net", "pid", "ipc", "uts", "mnt", "cgroup"):
        yield Finding(f"kernel: {kind} namespaces", Path(f"/proc/self/ns/{kind}").exists(), "another kernel is needed")
    yield Finding("kernel: seccomp", "Seccomp:" in Path("/proc/self/status").read_text(), "another kernel is needed")
    yield Finding("cgroups", _has_cgroups(), "mount cgroup2 at /sys/fs/cgroup, or apt-get install cgroupfs-mount")
    if os.geteuid() == 0:
        yield from _network(firewall)


def _network(firewall: bool) -> Iterator[Finding]:
    """Try it in a namespace of our own, all at once, and what is missing then once more by itself."""
    tried = [
        ("kernel: bridge", "ip link add name dyprobe type bridge", "bridge", True),
        ("kernel: veth", "ip link add dyprobe0 type veth peer name dyprobe1", "veth", True),
        ("kernel: nftables", "nft add table ip dyprobe", "nf_tables", firewall),
    ]
    all_work = _works_apart(" && ".join(command for _, command, _, _ in tried))
    for what, command, module, needed in tried:
        yield Finding(what, all_work or _works_apart(command), f"modprobe {module}", needed)
    listed = _run_quietly(["nft", "list", "tables"])
    if listed is not None:  # ended by a signal: so would our netdriver be, which has the same library
        remedy = (
            "a table that a newer nft made crashes this one: upgrade nftables and libnftables1, or delete that table"
        )
        yield Finding("nftables: the host's tables can be read", listed.returncode >= 0, remedy)


def _works_apart(script: str) -> bool:
    answer = _run_quietly(["unshare", "--net", "sh", "-c", script])
    return answer is not None and answer.returncode == 0


def first_problem(*, firewall: bool = True) -> str | None:
    """Return one line about the first thing that is needed and missing."""
    for finding in _needed(firewall):
        if finding.needed and not finding.ok:
            return f"{finding.what} is missing: {finding.remedy}"
        if finding.what == "root" and not finding.ok:
            return finding.remedy
    return None


def _has(*programs: str) -> bool:
    return any(shutil.which(program) for program in programs)


def _has_library(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _is_static(path: str) -> bool:
    answer = _run_quietly(["ldd", path])
    return Path(path).exists() and (answer is None or answer.returncode != 0)


def _run_quietly(command: list[str]) -> subprocess.CompletedProcess[bytes] | None:
    try:
        return subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return None


def _has_file_system(name: str) -> bool:
    def known() -> bool:
        return f"\t{name}\n" in Path("/proc/filesystems").read_text()

    if not known():
        _run_quietly(["modprobe", name])
    return known()


def _has_cgroups() -> bool:
    root = Path("/sys/fs/cgroup")
    return (root / "cgroup.controllers").exists() or all(
        (root / name).is_dir() for name in ("memory", "pids", "devices")
    )
