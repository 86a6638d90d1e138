"""Resources: the cgroup files that HostConfig's limits are, on cgroup v1 and v2.

We write them ourselves, at the start (before the process runs) and on each update: so both do the same, whatever the
runtime makes of its configuration. What is not given is left alone.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from services.execdriver.cgroups import Cgroup, write
from shared.protocol import DockyardError, HostConfig, InvalidArgument, ThrottleDevice

__all__ = ["Setting", "apply", "settings"]

CPU_PERIOD_US = 100_000
MIN_SHARES, MAX_SHARES = 2, 262_144
V1_MEMORY, V1_MEMORY_AND_SWAP = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"


@dataclass(frozen=True)
class Setting:
    """A controller, and files with what is written to them: the first one that this kernel has is taken."""

    controller: str
    files: tuple[tuple[str, str], ...]


def apply(cgroup: Cgroup, host_config: HostConfig) -> None:
    """Make the limits so. Idempotent. Errors: InvalidArgument (no such device), DockyardError (the kernel refuses)."""
    wanted = settings(host_config, unified=cgroup.unified)
    if not cgroup.unified:
        _order_memory(cgroup, wanted)
        if host_config.cpu_realtime_runtime:
            _make_room_for_realtime(cgroup, host_config)
    for setting in wanted:
        directory = cgroup.directory(setting.controller)
        name, text = next((file for file in setting.files if (directory / file[0]).exists()), setting.files[0])
        _write(directory / name, text)


def _write(path: Path, text: str) -> None:
    try:
        write(path, text)
    except OSError as error:
        raise DockyardError(f"cannot set {path.name} to {text!r}: {error.strerror}") from error


def settings(host_config: HostConfig, *, unified: bool) -> list[Setting]:
    """Translate to files (Linux admin-guide, cgroup-v1 and cgroup-v2). Errors: InvalidArgument (no such device)."""
    versions = _v2 if unified else _v1
    return list(versions(host_config)) + list(_alike(host_config))


def _one(controller: str, name: str, value: object) -> Setting:
    return Setting(controller, ((name, str(value)),))


def _v1(given: HostConfig) -> Iterator[Setting]:
    period, quota = _bandwidth(given)
    for controller, name, value in (
        ("memory", V1_MEMORY, given.memory),
        ("memory", V1_MEMORY_AND_SWAP, given.memory_swap),
        ("memory", "memory.soft_limit_in_bytes", given.memory_reservation),
        ("memory", "memory.kmem.tcp.limit_in_bytes", given.kernel_memory_tcp),
        ("memory", "memory.oom_control", int(given.oom_kill_disable or False)),
        ("cpu", "cpu.shares", given.cpu_shares),
        ("cpu", "cpu.cfs_period_us", period),
        ("cpu", "cpu.cfs_quota_us", quota),
        ("cpu", "cpu.rt_period_us", given.cpu_realtime_period),
        ("cpu", "cpu.rt_runtime_us", given.cpu_realtime_runtime),
    ):
        if value:
            yield _one(controller, name, value)
    if given.memory_swappiness is not None:
        yield _one("memory", "memory.swappiness", given.memory_swappiness)
    if given.blkio_weight:
        weight = str(given.blkio_weight)
        yield Setting("blkio", (("blkio.weight", weight), ("blkio.bfq.weight", weight)))
    for device in given.blkio_weight_device or []:
        text = f"{_number(device.path)} {device.weight}"
        yield Setting("blkio", (("blkio.weight_device", text), ("blkio.bfq.weight_device", text)))
    for kind, devices in _throttles(given):
        for throttle in devices:
            yield _one("blkio", f"blkio.throttle.{kind}_device", f"{_number(throttle.path)} {throttle.rate}")


def _v2(given: HostConfig) -> Iterator[Setting]:
    if given.memory:
        yield _one("memory", "memory.max", given.memory)
    if given.memory_swap:
        yield _one("memory", "memory.swap.max", _or_max(given.memory_swap, given.memory_swap - given.memory))
    if given.memory_reservation:
        yield _one("memory", "memory.low", given.memory_reservation)
    if given.cpu_shares:
        yield _one("cpu", "cpu.weight", _cpu_weight(given.cpu_shares))
    period, quota = _bandwidth(given)
    if period or quota:
        yield _one("cpu", "cpu.max", f"{_or_max(quota or -1, quota)} {period or CPU_PERIOD_US}")
    if given.blkio_weight:
        yield _io_weight("default", given.blkio_weight)
    for device in given.blkio_weight_device or []:
        yield _io_weight(_number(device.path), device.weight)
    for kind, devices in _throttles(given):
        key = {"read_bps": "rbps", "write_bps": "wbps", "read_iops": "riops", "write_iops": "wiops"}[kind]
        for throttle in devices:
            yield _one("io", "io.max", f"{_number(throttle.path)} {key}={throttle.rate}")


def _alike(given: HostConfig) -> Iterator[Setting]:
    """What both versions have under the same names."""
    if given.cpuset_cpus:
        yield _one("cpuset", "cpuset.cpus", given.cpuset_cpus)
    if given.cpuset_mems:
        yield _one("cpuset", "cpuset.mems", given.cpuset_mems)
    if given.pids_limit is not None:
        yield _one("pids", "pids.max", _or_max(given.pids_limit or -1, given.pids_limit))


def _or_max(given: int, value: int) -> str:
    return "max" if given < 0 else str(value)


def _bandwidth(given: HostConfig) -> tuple[int, int]:
    """Return CFS period and quota in microseconds: 0 where not given, quota -1 for none."""
    if given.nano_cpus:
        return CPU_PERIOD_US, given.nano_cpus * CPU_PERIOD_US // 1_000_000_000
    return given.cpu_period, given.cpu_quota


def _cpu_weight(shares: int) -> int:
    """Map 2…262144 to 1…10000, as the OCI runtimes do."""
    clamped = min(max(shares, MIN_SHARES), MAX_SHARES)
    return 1 + (clamped - MIN_SHARES) * 9999 // (MAX_SHARES - MIN_SHARES)


def _io_weight(subject: str, weight: int) -> Setting:
    """BFQ takes 10…1000 as it is, iocost has 1…10000."""
    scaled = 1 + (weight - 10) * 9999 // 990
    return Setting("io", (("io.bfq.weight", f"{subject} {weight}"), ("io.weight", f"{subject} {scaled}")))


def _throttles(given: HostConfig) -> Iterator[tuple[str, list[ThrottleDevice]]]:
    yield "read_bps", given.blkio_device_read_bps or []
    yield "write_bps", given.blkio_device_write_bps or []
    yield "read_iops", given.blkio_device_read_iops or []
    yield "write_iops", given.blkio_device_write_iops or []


def _number(path: str) -> str:
    """Return a device's MAJOR:MINOR. Errors: InvalidArgument."""
    try:
        device = Path(path).stat().st_rdev
    except OSError as error:
        raise InvalidArgument(f"stat {path}: {(error.strerror or '').lower()}") from error
    return f"{os.major(device)}:{os.minor(device)}"


def _order_memory(cgroup: Cgroup, wanted: list[Setting]) -> None:
    """v1: memory and swap together may never be less than memory alone, in between neither; so raise it first."""
    by_name = {setting.files[0][0]: setting for setting in wanted}
    swap, current = by_name.get(V1_MEMORY_AND_SWAP), cgroup.directory("memory") / V1_MEMORY_AND_SWAP
    if swap is None or not current.exists():
        return
    value = int(swap.files[0][1])
    if value < 0 or value > int(current.read_text()):
        wanted.remove(swap)
        wanted.insert(0, swap)


def _make_room_for_realtime(cgroup: Cgroup, given: HostConfig) -> None:
    """v1: a cgroup is made with no realtime, and gives its children no more than it has; so give those above more."""
    child = cgroup.directory("cpu")
    period = given.cpu_realtime_period or _read(child / "cpu.rt_period_us")
    needed = given.cpu_realtime_runtime / period
    above = []
    for parent in child.parents:
        if parent == cgroup.root / "cpu":
            break
        needed += sum(_realtime_of_another(other) for other in parent.iterdir() if other.is_dir() and other != child)
        above.append((parent, needed))
        needed, child = max(needed, _realtime(parent)), parent
    for directory, share in reversed(above):
        if share > _realtime(directory):
            _write(directory / "cpu.rt_runtime_us", str(math.ceil(share * _read(directory / "cpu.rt_period_us"))))


def _realtime(directory: Path) -> float:
    """Return the part of a CPU that a cgroup has for realtime."""
    return _read(directory / "cpu.rt_runtime_us") / _read(directory / "cpu.rt_period_us")


def _realtime_of_another(directory: Path) -> float:
    try:
        return _realtime(directory)
    except DockyardError:  # it has gone
        return 0.0


def _read(path: Path) -> int:
    try:
        return int(path.read_text())
    except OSError as error:
        raise DockyardError(f"cannot read {path.name}: {error.strerror}") from error
