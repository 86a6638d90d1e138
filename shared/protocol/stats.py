"""Stats: a sample of what a container uses, spelled as API 1.51 ContainerStatsResponse, and the jobs that take one.

| kernel | differs in                                                                                     |
|--------|------------------------------------------------------------------------------------------------|
| v1     | ``percpu_usage``, ``max_usage``, ``failcnt``; operations ``Read``, ``Write``; ``total_…`` stats |
| v2     | operations ``read``, ``write``; ``anon``, ``file``, ``inactive_file`` … among the stats           |
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import UNSET, UnsetType, field

from shared.protocol.job import Data, Job

__all__ = [
    "BlkioEntry",
    "BlkioStats",
    "ContainerStats",
    "CpuStats",
    "CpuUsage",
    "MemoryStats",
    "NetworkStats",
    "PidsStats",
    "RuntimeStats",
    "SampleContainer",
    "ThrottlingData",
]

NEVER = "0001-01-01T00:00:00Z"


class CpuUsage(Data, frozen=True):
    """In nanoseconds."""

    total_usage: int
    usage_in_kernelmode: int
    usage_in_usermode: int
    percpu_usage: list[int] | None = None


class ThrottlingData(Data, frozen=True, omit_defaults=False):
    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0  # nanoseconds


class CpuStats(Data, frozen=True):
    cpu_usage: CpuUsage
    throttling_data: ThrottlingData
    system_cpu_usage: int = 0  # of all CPUs of the host, in nanoseconds
    online_cpus: int = 0


class MemoryStats(Data, frozen=True):
    """In bytes. ``limit`` is at most the host's memory."""

    usage: int = 0
    max_usage: int = 0
    stats: dict[str, int] = {}
    failcnt: int = 0
    limit: int = 0


class PidsStats(Data, frozen=True):
    current: int = 0
    limit: int = 0


class BlkioEntry(Data, frozen=True, omit_defaults=False):
    major: int
    minor: int
    op: str
    value: int


class BlkioStats(Data, frozen=True, omit_defaults=False):
    io_service_bytes_recursive: list[BlkioEntry] | None = None
    io_serviced_recursive: list[BlkioEntry] | None = None
    io_queue_recursive: list[BlkioEntry] | None = None
    io_service_time_recursive: list[BlkioEntry] | None = None
    io_wait_time_recursive: list[BlkioEntry] | None = None
    io_merged_recursive: list[BlkioEntry] | None = None
    io_time_recursive: list[BlkioEntry] | None = None
    sectors_recursive: list[BlkioEntry] | None = None


class NetworkStats(Data, frozen=True, omit_defaults=False):
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


def _no_cpu() -> CpuStats:
    usage = CpuUsage(total_usage=0, usage_in_kernelmode=0, usage_in_usermode=0)
    return CpuStats(cpu_usage=usage, throttling_data=ThrottlingData())


class ContainerStats(Data, frozen=True, omit_defaults=False):
    """``read``: when, RFC 3339 with nine digits. A container that does not run has zeros, and was never read.

    ``precpu_stats`` and ``preread`` are the sample before, which who asks again puts in.
    """

    id: str = ""
    name: str = ""
    read: str = NEVER
    preread: str = NEVER
    pids_stats: PidsStats = PidsStats()
    blkio_stats: BlkioStats = BlkioStats()
    num_procs: int = 0  # of Windows
    storage_stats: dict[str, int] = {}  # of Windows
    cpu_stats: CpuStats = field(default_factory=_no_cpu)
    precpu_stats: CpuStats = field(default_factory=_no_cpu)
    memory_stats: MemoryStats = MemoryStats()
    networks: dict[str, NetworkStats] | UnsetType = UNSET  # absent where it has none of its own

    @property
    def is_of_running(self) -> bool:
        return self.read != NEVER


class SampleContainer(Job[ContainerStats], frozen=True, tag="container_stats"):
    """Take one sample; zeros if the container does not run."""

    REPEATABLE: ClassVar[bool] = True
    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    container: str


class RuntimeStats(Job[ContainerStats], frozen=True, tag="runtime_stats"):
    """Take one sample, without ``id`` and ``name``. ``networks``: count those of its network namespace.

    Errors: NotFound (it does not run).
    """

    REPEATABLE: ClassVar[bool] = True
    container: str
    networks: bool
