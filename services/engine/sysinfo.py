"""SysInfo: what this kernel can limit and confine, as far as a request must be checked against it."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.protocol import InvalidArgument

__all__ = ["SysInfo", "parse_list", "read_sysinfo", "sysinfo"]

CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class SysInfo:
    """``cpus`` and ``memory_nodes`` as the kernel lists them: ``0-3,8``."""

    ncpu: int
    cpus: str
    memory_nodes: str
    memory: bool = True
    swap: bool = True
    reservation: bool = True
    swappiness: bool = True
    oom_kill_disable: bool = True
    kernel_memory_tcp: bool = True
    cpu_shares: bool = True
    cpu_quota: bool = True
    realtime: bool = True
    cpuset: bool = True
    pids: bool = True
    block_weight: bool = True
    block_throttle: bool = True
    apparmor: bool = False
    selinux: bool = False


@functools.cache
def sysinfo() -> SysInfo:
    """Return this host's; read once."""
    return read_sysinfo(CGROUP_ROOT, Path("/sys"))


def read_sysinfo(root: Path, sys: Path) -> SysInfo:
    """Read a host whose cgroups are mounted at ``root`` and whose sysfs at ``sys``."""
    cpuset = root if (root / "cgroup.controllers").exists() else root / "cpuset"
    cpus, nodes = (
        _first_line(cpuset / f"cpuset.{kind}.effective", cpuset / f"cpuset.effective_{kind}", cpuset / f"cpuset.{kind}")
        for kind in ("cpus", "mems")
    )
    controllers = _v2(root, sys) if cpuset == root else _v1(root)
    return SysInfo(
        ncpu=len(os.sched_getaffinity(0)),
        cpus=cpus,
        memory_nodes=nodes,
        apparmor=_first_line(sys / "module/apparmor/parameters/enabled") == "Y",
        selinux=(sys / "fs/selinux/enforce").exists(),
        **controllers,
    )


def _v1(root: Path) -> dict[str, bool]:
    def has(file: str) -> bool:
        return (root / file).exists()

    return {
        "memory": has("memory/memory.limit_in_bytes"),
        "swap": has("memory/memory.memsw.limit_in_bytes"),
        "reservation": has("memory/memory.soft_limit_in_bytes"),
        "swappiness": has("memory/memory.swappiness"),
        "oom_kill_disable": has("memory/memory.oom_control"),
        "kernel_memory_tcp": has("memory/memory.kmem.tcp.limit_in_bytes"),
        "cpu_shares": has("cpu/cpu.shares"),
        "cpu_quota": has("cpu/cpu.cfs_quota_us"),
        "realtime": has("cpu/cpu.rt_runtime_us"),
        "cpuset": has("cpuset/cpuset.cpus"),
        "pids": has("pids"),
        # BFQ's weights are in all cgroups but the root
        "block_weight": has("blkio/blkio.weight") or has("blkio/blkio.bfq.io_service_bytes"),
        "block_throttle": has("blkio/blkio.throttle.read_bps_device"),
    }


def _v2(root: Path, sys: Path) -> dict[str, bool]:
    """The root cgroup has no limits: other files of it, and the cgroups below, tell which there are."""
    controllers = (root / "cgroup.controllers").read_text().split()
    accounted = [entry for entry in root.iterdir() if (entry / "memory.stat").exists()]
    weighs = (root / "io.cost.qos").exists() or any(
        "bfq" in _first_line(file) for file in sys.glob("block/*/queue/scheduler")
    )

    return {
        "memory": "memory" in controllers,
        "swap": "memory" in controllers and all((entry / "memory.swap.max").exists() for entry in accounted),
        "reservation": "memory" in controllers,
        "swappiness": False,
        "oom_kill_disable": False,
        "kernel_memory_tcp": False,
        "cpu_shares": "cpu" in controllers,
        "cpu_quota": "cpu" in controllers,
        "realtime": False,
        "cpuset": "cpuset" in controllers,
        "pids": "pids" in controllers,
        "block_weight": "io" in controllers and weighs,
        "block_throttle": "io" in controllers,
    }


def _first_line(*files: Path) -> str:
    """Return the content of the first file that is there, else an empty string."""
    for file in files:
        try:
            return file.read_text().strip()
        except OSError:
            continue
    return ""


def parse_list(text: str) -> set[int]:
    """Parse ``0-2,7`` (cpuset(7), list format). Errors: InvalidArgument."""
    return set(_numbers(text))


def _numbers(text: str) -> Iterator[int]:
    for part in text.split(",") if text else []:
        found = re.fullmatch(r"\s*([0-9]{1,4})(?:-([0-9]{1,4}))?\s*", part)
        if found is None or int(found[1]) > int(found[2] or found[1]):
            raise InvalidArgument(f"invalid list: {text!r}")
        yield from range(int(found[1]), int(found[2] or found[1]) + 1)
