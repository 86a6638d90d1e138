"""A sample on trees that look like cgroup v1 and v2."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from services.execdriver.cgroups import Cgroup
from services.execdriver.stats import NS_PER_TICK, parse_interfaces, parse_system_cpu, sample
from shared.protocol import ContainerStats, NotFound

NET_DEV = """Inter-|   Receive                               |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo: 6473 89 0 0 0 0 0 0 6473 89 0 0 0 0 0 0
  eth0:  100  2 3 4 0 0 0 0  500  6 7 8 0 0 0 0
 tunl0:    0  0 0 0 0 0 0 0    0  0 0 0 0 0 0 0
"""
V1 = {
    "cpuacct/x/cpuacct.usage": "3000\n",
    "cpuacct/x/cpuacct.usage_percpu": "1000 2000 \n",
    "cpuacct/x/cpuacct.stat": "user 2\nsystem 1\n",
    "cpu/x/cpu.stat": "nr_periods 5\nnr_throttled 4\nthrottled_time 99\n",
    "memory/x/memory.usage_in_bytes": "4096\n",
    "memory/x/memory.max_usage_in_bytes": "8192\n",
    "memory/x/memory.limit_in_bytes": "9223372036854771712\n",
    "memory/x/memory.failcnt": "1\n",
    "memory/x/memory.stat": "cache 10\ntotal_inactive_file 20\n",
    "pids/x/pids.current": "3\n",
    "pids/x/pids.max": "max\n",
    "blkio/x/blkio.throttle.io_service_bytes_recursive": "8:0 Read 4096\n8:0 Write 10\n8:0 Total 4106\nTotal 4106\n",
}
V2 = {
    "cgroup.controllers": "cpu memory pids io\n",
    "x/cpu.stat": "usage_usec 3\nuser_usec 2\nsystem_usec 1\nnr_periods 5\nnr_throttled 4\nthrottled_usec 9\n",
    "x/memory.current": "4096\n",
    "x/memory.max": "65536\n",
    "x/memory.stat": "anon 10\ninactive_file 20\n",
    "x/memory.events": "low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\n",
    "x/pids.current": "3\n",
    "x/pids.max": "max\n",
    "x/io.stat": "8:0 rbytes=4096 wbytes=10 rios=1 wios=1 dbytes=0 dios=0\n254:1 \n",
}


def take(root: Path, files: dict[str, str], *, networks: bool = True) -> ContainerStats:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    proc = root / "proc"
    (proc / "7" / "net").mkdir(parents=True, exist_ok=True)
    (proc / "7" / "net" / "dev").write_text(NET_DEV)
    (proc / "stat").write_text("cpu  1 2 3 4 5 6 7 800 900 0\ncpu0 1\ncpu1 1\nintr 5\n")
    return sample(Cgroup("/x", root), 7, networks=networks, proc=str(proc))


def test_v1(tmp_path: Path) -> None:
    found = take(tmp_path, V1)
    usage = found.cpu_stats.cpu_usage
    assert (usage.total_usage, usage.percpu_usage) == (3000, [1000, 2000])
    assert (usage.usage_in_usermode, usage.usage_in_kernelmode) == (2 * NS_PER_TICK, NS_PER_TICK)
    throttling = found.cpu_stats.throttling_data
    assert (throttling.periods, throttling.throttled_periods, throttling.throttled_time) == (5, 4, 99)
    memory = found.memory_stats
    assert (memory.usage, memory.max_usage, memory.failcnt) == (4096, 8192, 1)
    assert memory.stats == {"cache": 10, "total_inactive_file": 20}
    assert 0 < memory.limit < 1 << 60  # at most the machine's
    assert (found.pids_stats.current, found.pids_stats.limit) == (3, 0)
    entries = found.blkio_stats.io_service_bytes_recursive or []
    assert [(e.major, e.minor, e.op, e.value) for e in entries] == [
        (8, 0, "Read", 4096), (8, 0, "Write", 10), (8, 0, "Total", 4106),
    ]  # fmt: skip


def test_v2(tmp_path: Path) -> None:
    found = take(tmp_path, V2)
    usage = found.cpu_stats.cpu_usage
    assert (usage.total_usage, usage.usage_in_usermode, usage.usage_in_kernelmode) == (3000, 2000, 1000)
    assert usage.percpu_usage is None
    assert found.cpu_stats.throttling_data.throttled_time == 9000
    memory = found.memory_stats
    assert (memory.usage, memory.max_usage, memory.failcnt, memory.limit) == (4096, 0, 2, 65536)
    assert memory.stats == {"anon": 10, "inactive_file": 20}
    assert (found.pids_stats.current, found.pids_stats.limit) == (3, 2**64 - 1)
    entries = found.blkio_stats.io_service_bytes_recursive or []
    assert [(e.op, e.value) for e in entries] == [("read", 4096), ("write", 10)]
    assert found.blkio_stats.io_serviced_recursive is None


def test_v2_without_controllers(tmp_path: Path) -> None:
    found = take(tmp_path, {name: V2[name] for name in ("cgroup.controllers", "x/cpu.stat")})
    assert found.memory_stats.usage == found.pids_stats.current == 0


@pytest.mark.parametrize(("files", "absent"), [(V1, set()), (V2, {"percpu_usage", "max_usage"})])
def test_what_clients_tell_the_kernels_apart_by(tmp_path: Path, files: dict[str, str], absent: set[str]) -> None:
    """The command takes ``total_inactive_file`` or ``inactive_file``, whichever is there."""
    text = msgspec.json.encode(take(tmp_path, files)).decode()
    for key in ("percpu_usage", "max_usage"):
        assert (key in text) == (key not in absent)


def test_the_system(tmp_path: Path) -> None:
    found = take(tmp_path, V2, networks=False)
    assert (found.cpu_stats.system_cpu_usage, found.cpu_stats.online_cpus) == (28 * NS_PER_TICK, 2)
    assert b"networks" not in msgspec.json.encode(found)
    assert found.read[-1] == "Z"
    assert len(found.read) == len("2026-01-01T00:00:00.123456789Z")


def test_interfaces_other_than_the_containers_own_are_left_out() -> None:
    (name, counters), = parse_interfaces(NET_DEV).items()  # fmt: skip
    assert name == "eth0"
    assert msgspec.structs.astuple(counters) == (100, 2, 3, 4, 500, 6, 7, 8)


def test_a_kernel_with_one_cpu() -> None:
    assert parse_system_cpu("cpu  1 1 1 1 1 1 1 0 0 0\ncpu0 1\nintr\n") == (7 * NS_PER_TICK, 1)


def test_what_is_gone_is_not_found(tmp_path: Path) -> None:
    take(tmp_path, V1)
    with pytest.raises(NotFound):
        sample(Cgroup("/gone", tmp_path), 7, networks=False, proc=str(tmp_path / "proc"))


def test_zeros_are_shown_as_docker_shows_them() -> None:
    shown = msgspec.to_builtins(ContainerStats(id="i", name="/n"))
    assert (shown["read"], shown["memory_stats"], shown["pids_stats"]) == ("0001-01-01T00:00:00Z", {}, {})
    assert shown["cpu_stats"]["cpu_usage"] == {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0}
    assert shown["blkio_stats"]["io_service_bytes_recursive"] is None
