"""What the execdriver promises about a container that runs: pause, update, stats, top."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from services.execdriver.cgroups import Cgroup
from shared.protocol import (
    ContainerStats,
    DockyardError,
    HostConfig,
    MountPoint,
    NotFound,
    Processes,
    RuntimeDelete,
    RuntimeKill,
    RuntimeList,
    RuntimePause,
    RuntimeStart,
    RuntimeStats,
    RuntimeTop,
    RuntimeUnpause,
    RuntimeUpdate,
)
from tests.contract.test_execdriver import Bench, bench, shared_rootfs, until

__all__ = ["bench", "shared_rootfs"]

pytestmark = pytest.mark.root


def counter(bench: Bench) -> tuple[RuntimeStart, Path]:
    """Start a container that makes a file longer and longer; returns the file too."""
    shared = bench.config.run / "shared"
    shared.mkdir()
    mounts = [MountPoint(type="bind", source=str(shared), destination="/tmp")]
    job = bench.job("sh", "-c", "while :; do echo x >> /tmp/count; usleep 1000; done", mounts=mounts)
    bench.do(job)
    until((shared / "count").exists)
    return job, shared / "count"


def paused(bench: Bench) -> list[bool]:
    return [entry.paused for entry in bench.do(RuntimeList())]


def test_a_paused_container_stands_still_until_it_is_unpaused(bench: Bench) -> None:
    job, count = counter(bench)
    for _ in range(2):  # idempotent
        bench.do(RuntimePause(container=job.container))
    assert paused(bench) == [True]
    size = count.stat().st_size
    threading.Event().wait(0.05)
    assert count.stat().st_size == size
    for _ in range(2):
        bench.do(RuntimeUnpause(container=job.container))
    assert paused(bench) == [False]
    until(lambda: count.stat().st_size > size)


def test_a_pause_outlives_the_driver(bench: Bench) -> None:
    job, _ = counter(bench)
    bench.do(RuntimePause(container=job.container))
    bench.driver = bench.new_driver()
    assert paused(bench) == [True]
    bench.do(RuntimeUnpause(container=job.container))
    assert paused(bench) == [False]


def test_a_signal_arrives_at_the_thaw_at_the_latest(bench: Bench) -> None:
    job, _ = counter(bench)
    bench.do(RuntimePause(container=job.container))
    bench.do(RuntimeKill(container=job.container, signal=signal.SIGKILL))
    with suppress(NotFound):  # cgroup v2 has let it die already
        bench.do(RuntimeUnpause(container=job.container))
    assert bench.exit_of(job.container).exit_code == 137
    assert paused(bench) == [False]


def test_a_paused_container_can_be_deleted(bench: Bench) -> None:
    job, _ = counter(bench)
    bench.do(RuntimePause(container=job.container))
    bench.do(RuntimeDelete(container=job.container))
    assert not bench.do(RuntimeList())


@pytest.mark.parametrize("kind", [RuntimePause, RuntimeUnpause])
def test_what_does_not_run_is_not_found(bench: Bench, kind: Any) -> None:
    job = bench.job("true")
    bench.do(job)
    bench.exit_of(job.container)
    for container in (job.container, "0" * 64):
        with pytest.raises(NotFound):
            bench.do(kind(container=container))


def limit(bench: Bench, job: RuntimeStart, *names: str) -> str:
    """Return the content of the first of the files (as CONTROLLER/NAME) that the container's cgroup has."""
    cgroup = Cgroup(f"{bench.config.cgroup_parent}/{job.container}")
    files = [cgroup.directory(name.partition("/")[0]) / name.partition("/")[2] for name in names]
    return next(file.read_text().strip() for file in files if file.exists())


MEMORY = ("memory/memory.limit_in_bytes", "memory/memory.max")
MB = 1 << 20


def test_limits_hold_from_the_start_and_change_at_once(bench: Bench) -> None:
    job = bench.job(
        "sleep", "60", host=HostConfig(shm_size=1 << 20, memory=64 * MB, memory_swap=128 * MB, pids_limit=9)
    )
    bench.do(job)
    assert (limit(bench, job, *MEMORY), limit(bench, job, "pids/pids.max")) == (str(64 * MB), "9")
    for memory, swap in ((256 * MB, 512 * MB), (32 * MB, 32 * MB), (40 * MB, -1)):  # up, down, and no limit
        limits = HostConfig(memory=memory, memory_swap=swap)
        bench.do(RuntimeUpdate(container=job.container, host_config=limits))
        assert limit(bench, job, *MEMORY) == str(memory)
    bench.do(RuntimeUpdate(container=job.container, host_config=HostConfig(pids_limit=0, cpu_quota=50_000)))
    assert limit(bench, job, "pids/pids.max") == "max"
    assert limit(bench, job, "cpu/cpu.cfs_quota_us", "cpu/cpu.max").split()[0] == "50000"
    bench.do(RuntimeUpdate(container=job.container, host_config=HostConfig(cpu_quota=-1)))
    assert limit(bench, job, "cpu/cpu.cfs_quota_us", "cpu/cpu.max").split()[0] in ("-1", "max")


def test_an_update_of_what_does_not_run_is_not_found(bench: Bench) -> None:
    with pytest.raises(NotFound):
        bench.do(RuntimeUpdate(container="0" * 64, host_config=HostConfig(cpu_shares=5)))


def test_limits_that_the_kernel_refuses_leave_nothing_behind(bench: Bench) -> None:
    job = bench.job("sleep", "60", host=HostConfig(shm_size=1 << 20, cpuset_cpus="4095"))
    with pytest.raises(DockyardError, match=r"cannot set cpuset\.cpus"):
        bench.do(job)
    assert not bench.do(RuntimeList())


def test_a_sample_of_what_runs(bench: Bench) -> None:
    job = bench.job("sh", "-c", "while :; do :; done")
    bench.do(job)

    def used() -> int:
        found: ContainerStats = bench.do(RuntimeStats(container=job.container, networks=True))
        return found.cpu_stats.cpu_usage.total_usage

    until(lambda: used() > 10_000_000)
    sample: ContainerStats = bench.do(RuntimeStats(container=job.container, networks=True))
    assert sample.pids_stats.current >= 1
    assert 0 < sample.memory_stats.usage < sample.memory_stats.limit
    assert {"inactive_file", "total_inactive_file"} & set(sample.memory_stats.stats)
    assert sample.networks == {}  # the namespace has no interface but lo
    assert sample.cpu_stats.system_cpu_usage > 0
    bench.do(RuntimeKill(container=job.container, signal=signal.SIGKILL))
    bench.exit_of(job.container)
    with pytest.raises(NotFound):
        bench.do(RuntimeStats(container=job.container, networks=True))


def test_the_processes_of_a_container_have_the_hosts_pids(bench: Bench) -> None:
    job = bench.job("sh", "-c", "sleep 60 & sleep 61 & wait")
    started = bench.do(job)

    def found() -> list[str]:
        listed: Processes = bench.do(RuntimeTop(container=job.container, ps_args="-o pid,args"))
        assert listed.titles == ["PID", "COMMAND"]
        return [row[1] for row in listed.processes if row[0] == str(started.pid) or "sleep" in row[1]]

    until(lambda: len(found()) == 3)
    assert sorted(found()) == ["sh -c sleep 60 & sleep 61 & wait", "sleep 60", "sleep 61"]
