"""Stats: one sample of what a container uses, from its cgroup and from /proc (cgroup v1, v2 and hybrid).

A sample is a dozen small files and no fork. Network counters are those of /proc/PID/net/dev, which shows the network
namespace of that process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from msgspec import UNSET

from services.execdriver.cgroups import Cgroup
from shared.protocol import (
    BlkioEntry,
    BlkioStats,
    ContainerStats,
    CpuStats,
    CpuUsage,
    MemoryStats,
    NetworkStats,
    NotFound,
    PidsStats,
    ThrottlingData,
)

__all__ = ["parse_interfaces", "parse_system_cpu", "sample"]

NOT_COUNTED = frozenset(  # lo, and what kernels with tunnels put into every namespace
    "lo tunl0 gre0 gretap0 erspan0 sit0 ip_vti0 ip6_vti0 ip6tnl0 ip6gre0 ip6erspan0 teql0 dummy0".split()
)
NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
NO_LIMIT = 2**64 - 1
MACHINE_MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # bytes
V1_BLOCK_FILES = ("blkio.throttle.{}_recursive", "blkio.throttle.{}")  # newer kernels, older ones
MAX_FILE = 1 << 18  # bytes


def sample(cgroup: Cgroup, pid: int, *, networks: bool, proc: str = "/proc") -> ContainerStats:
    """Take a sample of a container whose init is ``pid``. Errors: NotFound (it has ended)."""
    now = time.time_ns()
    kernel = _V2(cgroup) if cgroup.unified else _V1(cgroup)
    try:
        system, online = parse_system_cpu(_read(f"{proc}/stat"))
        usage, throttling = kernel.cpu()
        return ContainerStats(
            read=f"{datetime.fromtimestamp(now // 1_000_000_000, UTC):%Y-%m-%dT%H:%M:%S}.{now % 1_000_000_000:09d}Z",
            cpu_stats=CpuStats(
                cpu_usage=usage, throttling_data=throttling, system_cpu_usage=system, online_cpus=online
            ),
            memory_stats=kernel.memory(),
            blkio_stats=kernel.block(),
            pids_stats=kernel.pids(),
            networks=parse_interfaces(_read(f"{proc}/{pid}/net/dev")) if networks else UNSET,
        )
    except (FileNotFoundError, ProcessLookupError):
        raise NotFound(f"the cgroup {cgroup.path} is gone") from None


def parse_system_cpu(text: str) -> tuple[int, int]:
    """Return the nanoseconds that all CPUs have passed in all states, and their number (proc(5), stat)."""
    ticks, online = 0, 0
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        if name == "cpu":
            ticks = sum(int(number) for number in rest.split()[:7])
        elif name.startswith("cpu"):
            online += 1
        else:
            break
    return ticks * NS_PER_TICK, online


def parse_interfaces(text: str) -> dict[str, NetworkStats]:
    """Return the counters of eth0, eth1 …; not of those in every namespace (proc(5), net/dev)."""
    found = {}
    for line in text.splitlines()[2:]:
        name, _, rest = line.strip().partition(":")
        if name not in NOT_COUNTED:
            numbers = [int(number) for number in rest.split()]
            rx_bytes, rx_packets, rx_errors, rx_dropped = numbers[:4]
            tx_bytes, tx_packets, tx_errors, tx_dropped = numbers[8:12]
            found[name] = NetworkStats(
                rx_bytes=rx_bytes, rx_packets=rx_packets, rx_errors=rx_errors, rx_dropped=rx_dropped,
                tx_bytes=tx_bytes, tx_packets=tx_packets, tx_errors=tx_errors, tx_dropped=tx_dropped,
            )  # fmt: skip
    return found


def _read(path: str) -> str:
    """Read a small file of the kernel: half the time of pathlib's, and there are many."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, MAX_FILE).decode("ascii", "replace")
    finally:
        os.close(descriptor)


def _pairs(path: str) -> dict[str, int]:
    """Read lines of ``name number``."""
    return {name: int(value) for name, value in map(str.split, _read(path).splitlines())}


def _number(path: str, default: int = 0) -> int:
    """Read a number; ``max`` is no limit; ``default`` where there is no such file."""
    try:
        text = _read(path).strip()
    except FileNotFoundError:
        return default
    return NO_LIMIT if text == "max" else int(text)


def _throttling(bandwidth: dict[str, int], throttled_ns: int) -> ThrottlingData:
    return ThrottlingData(
        periods=bandwidth.get("nr_periods", 0),
        throttled_periods=bandwidth.get("nr_throttled", 0),
        throttled_time=throttled_ns,
    )


class _V1:
    """cgroup v1: a directory a controller."""

    def __init__(self, cgroup: Cgroup) -> None:
        self._root, self._path = cgroup.root, cgroup.path.lstrip("/")

    def _of(self, controller: str) -> str:
        return f"{self._root}/{controller}/{self._path}"

    def cpu(self) -> tuple[CpuUsage, ThrottlingData]:
        accounting = self._of("cpuacct")
        ticks = _pairs(f"{accounting}/cpuacct.stat")
        bandwidth = _pairs(f"{self._of('cpu')}/cpu.stat")
        usage = CpuUsage(
            total_usage=int(_read(f"{accounting}/cpuacct.usage")),
            usage_in_kernelmode=ticks["system"] * NS_PER_TICK,
            usage_in_usermode=ticks["user"] * NS_PER_TICK,
            percpu_usage=[int(number) for number in _read(f"{accounting}/cpuacct.usage_percpu").split()],
        )
        return usage, _throttling(bandwidth, bandwidth.get("throttled_time", 0))

    def memory(self) -> MemoryStats:
        directory = self._of("memory")
        return MemoryStats(
            usage=_number(f"{directory}/memory.usage_in_bytes"),
            max_usage=_number(f"{directory}/memory.max_usage_in_bytes"),
            stats=_pairs(f"{directory}/memory.stat"),
            failcnt=_number(f"{directory}/memory.failcnt"),
            limit=min(MACHINE_MEMORY, _number(f"{directory}/memory.limit_in_bytes", NO_LIMIT)),
        )

    def pids(self) -> PidsStats:
        directory = self._of("pids")
        limit = _number(f"{directory}/pids.max")
        return PidsStats(current=_number(f"{directory}/pids.current"), limit=0 if limit == NO_LIMIT else limit)

    def block(self) -> BlkioStats:
        return BlkioStats(
            io_service_bytes_recursive=self._entries("io_service_bytes"),
            io_serviced_recursive=self._entries("io_serviced"),
            io_queue_recursive=[],
            io_service_time_recursive=[],
            io_wait_time_recursive=[],
            io_merged_recursive=[],
            io_time_recursive=[],
            sectors_recursive=[],
        )

    def _entries(self, what: str) -> list[BlkioEntry]:
        """Read lines of ``8:0 Read 4096``; the sum at the end is left out."""
        directory = self._of("blkio")
        for name in V1_BLOCK_FILES:
            try:
                lines = _read(f"{directory}/{name.format(what)}").splitlines()
            except FileNotFoundError:
                continue
            return [_entry(*words) for words in map(str.split, lines) if len(words) == 3]
        return []


def _entry(device: str, op: str, value: str) -> BlkioEntry:
    major, _, minor = device.partition(":")
    return BlkioEntry(major=int(major), minor=int(minor), op=op, value=int(value))


class _V2:
    """cgroup v2: one directory; a controller that is not there has no files."""

    def __init__(self, cgroup: Cgroup) -> None:
        self._directory = f"{cgroup.root}/{cgroup.path.lstrip('/')}"

    def cpu(self) -> tuple[CpuUsage, ThrottlingData]:
        found = _pairs(f"{self._directory}/cpu.stat")
        usage = CpuUsage(
            total_usage=found["usage_usec"] * 1000,
            usage_in_kernelmode=found["system_usec"] * 1000,
            usage_in_usermode=found["user_usec"] * 1000,
        )
        return usage, _throttling(found, found.get("throttled_usec", 0) * 1000)

    def memory(self) -> MemoryStats:
        try:
            events = _pairs(f"{self._directory}/memory.events")
        except FileNotFoundError:
            return MemoryStats()
        return MemoryStats(
            usage=_number(f"{self._directory}/memory.current"),
            stats=_pairs(f"{self._directory}/memory.stat"),
            failcnt=events.get("oom", 0),
            limit=min(MACHINE_MEMORY, _number(f"{self._directory}/memory.max", NO_LIMIT)),
        )

    def pids(self) -> PidsStats:
        return PidsStats(
            current=_number(f"{self._directory}/pids.current"), limit=_number(f"{self._directory}/pids.max")
        )

    def block(self) -> BlkioStats:
        try:
            lines = _read(f"{self._directory}/io.stat").splitlines()
        except FileNotFoundError:
            return BlkioStats()
        return BlkioStats(io_service_bytes_recursive=[entry for line in lines for entry in _v2_entries(line)])


def _v2_entries(line: str) -> Iterator[BlkioEntry]:
    """Parse ``8:0 rbytes=90 wbytes=12 rios=…``."""
    device, _, rest = line.partition(" ")
    counters = dict(word.split("=", 1) for word in rest.split() if "=" in word)
    for op, name in (("read", "rbytes"), ("write", "wbytes")):
        if name in counters:
            yield _entry(device, op, counters[name])
