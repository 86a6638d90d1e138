"""Limits as cgroup files: one table for v1 and v2, and what the kernel's rules on order need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from services.execdriver import resources
from services.execdriver.cgroups import Cgroup
from services.execdriver.resources import apply, settings
from shared.protocol import DockyardError, HostConfig, InvalidArgument, ThrottleDevice, WeightDevice

NULL = "/dev/null"  # 1:3 on every Linux
TABLE: dict[str, tuple[dict[str, Any], dict[str, str], dict[str, str]]] = {
    "memory": ({"memory": 64 << 20}, {"memory/memory.limit_in_bytes": "67108864"}, {"memory/memory.max": "67108864"}),
    "swap": (
        {"memory": 1000, "memory_swap": 3000},
        {"memory/memory.limit_in_bytes": "1000", "memory/memory.memsw.limit_in_bytes": "3000"},
        {"memory/memory.max": "1000", "memory/memory.swap.max": "2000"},
    ),
    "swap without limit": (
        {"memory_swap": -1},
        {"memory/memory.memsw.limit_in_bytes": "-1"},
        {"memory/memory.swap.max": "max"},
    ),
    "no swap": (
        {"memory": 1000, "memory_swap": 1000},
        {"memory/memory.limit_in_bytes": "1000", "memory/memory.memsw.limit_in_bytes": "1000"},
        {"memory/memory.max": "1000", "memory/memory.swap.max": "0"},
    ),
    "reservation": (
        {"memory_reservation": 500},
        {"memory/memory.soft_limit_in_bytes": "500"},
        {"memory/memory.low": "500"},
    ),
    "of v1 alone": (
        {"memory_swappiness": 0, "oom_kill_disable": True, "kernel_memory_tcp": 700},
        {"memory/memory.swappiness": "0", "memory/memory.oom_control": "1",
         "memory/memory.kmem.tcp.limit_in_bytes": "700"},
        {},
    ),
    "shares": ({"cpu_shares": 1024}, {"cpu/cpu.shares": "1024"}, {"cpu/cpu.weight": "39"}),
    "least shares": ({"cpu_shares": 2}, {"cpu/cpu.shares": "2"}, {"cpu/cpu.weight": "1"}),
    "most shares": ({"cpu_shares": 1 << 20}, {"cpu/cpu.shares": "1048576"}, {"cpu/cpu.weight": "10000"}),
    "quota": (
        {"cpu_quota": 50_000, "cpu_period": 200_000},
        {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "200000"},
        {"cpu/cpu.max": "50000 200000"},
    ),
    "no quota": ({"cpu_quota": -1}, {"cpu/cpu.cfs_quota_us": "-1"}, {"cpu/cpu.max": "max 100000"}),
    "period alone": ({"cpu_period": 5000}, {"cpu/cpu.cfs_period_us": "5000"}, {"cpu/cpu.max": "max 5000"}),
    "cpus": (
        {"nano_cpus": 1_500_000_000},
        {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"},
        {"cpu/cpu.max": "150000 100000"},
    ),
    "cpuset": (
        {"cpuset_cpus": "0-1", "cpuset_mems": "0"},
        {"cpuset/cpuset.cpus": "0-1", "cpuset/cpuset.mems": "0"},
        {"cpuset/cpuset.cpus": "0-1", "cpuset/cpuset.mems": "0"},
    ),
    "pids": ({"pids_limit": 7}, {"pids/pids.max": "7"}, {"pids/pids.max": "7"}),
    "no limit of pids": ({"pids_limit": 0}, {"pids/pids.max": "max"}, {"pids/pids.max": "max"}),
    "block weight": ({"blkio_weight": 300}, {"blkio/blkio.weight": "300"}, {"io/io.bfq.weight": "default 300"}),
    "block weight of a device": (
        {"blkio_weight_device": [WeightDevice(path=NULL, weight=10)]},
        {"blkio/blkio.weight_device": "1:3 10"},
        {"io/io.bfq.weight": "1:3 10"},
    ),
    "throttled devices": (
        {f"blkio_device_{kind}": [ThrottleDevice(path=NULL, rate=rate)]
         for kind, rate in (("read_bps", 1), ("write_bps", 2), ("read_iops", 3), ("write_iops", 4))},
        {"blkio/blkio.throttle.read_bps_device": "1:3 1", "blkio/blkio.throttle.write_bps_device": "1:3 2",
         "blkio/blkio.throttle.read_iops_device": "1:3 3", "blkio/blkio.throttle.write_iops_device": "1:3 4"},
        {"io/io.max": "1:3 wiops=4"},  # the last of four writes to one file
    ),
}  # fmt: skip


def written(host: dict[str, Any], *, unified: bool) -> dict[str, str]:
    made = settings(HostConfig(**host), unified=unified)
    return {f"{setting.controller}/{setting.files[0][0]}": setting.files[0][1] for setting in made}


@pytest.mark.parametrize("name", TABLE)
def test_each_limit_is_a_file(name: str) -> None:
    host, v1, v2 = TABLE[name]
    assert written(host, unified=False) == v1
    assert written(host, unified=True) == v2


def test_nothing_given_is_nothing_written() -> None:
    assert not settings(HostConfig(), unified=False)
    assert not settings(HostConfig(), unified=True)


def v1(root: Path, **files: str) -> Cgroup:
    """Make the cgroup /x; of a file name the first word is the controller."""
    for name, text in files.items():
        controller, _, file = name.partition("__")
        directory = root / controller / "x"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / file.replace("__", ".")).write_text(text)
    return Cgroup("/x", root)


@pytest.mark.parametrize(("memory", "swap", "first"), [(5000, 6000, "swap"), (500, 600, "memory"), (5000, -1, "swap")])
def test_memory_and_swap_are_raised_and_lowered_in_the_order_that_the_kernel_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int, swap: int, first: str
) -> None:
    cgroup = v1(tmp_path, memory__memory__limit_in_bytes="1000", memory__memory__memsw__limit_in_bytes="2000")
    order: list[str] = []
    monkeypatch.setattr(resources, "write", lambda path, _: order.append("swap" if "memsw" in path.name else "memory"))
    apply(cgroup, HostConfig(memory=memory, memory_swap=swap))
    assert order == [first, "memory" if first == "swap" else "swap"]


def test_of_two_names_the_one_that_the_kernel_has_is_taken(tmp_path: Path) -> None:
    cgroup = v1(tmp_path, blkio__blkio__bfq__weight="100")
    apply(cgroup, HostConfig(blkio_weight=300))
    assert (tmp_path / "blkio/x/blkio.bfq.weight").read_text() == "300"
    assert not (tmp_path / "blkio/x/blkio.weight").exists()


def test_iocost_has_a_scale_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    (tmp_path / "x").mkdir()
    (tmp_path / "x/io.weight").touch()
    for weight, scaled in ((10, 1), (500, 4950), (1000, 10000)):
        apply(Cgroup("/x", tmp_path), HostConfig(blkio_weight=weight))
        assert (tmp_path / "x/io.weight").read_text() == f"default {scaled}"


def test_realtime_is_taken_from_the_cgroups_above(tmp_path: Path) -> None:
    for directory, runtime in (("", 950_000), ("a", 0), ("a/other", 10_000), ("a/x", 0)):
        path = tmp_path / "cpu" / directory
        path.mkdir(parents=True, exist_ok=True)
        (path / "cpu.rt_runtime_us").write_text(str(runtime))
        (path / "cpu.rt_period_us").write_text("1000000")
    apply(Cgroup("/a/x", tmp_path), HostConfig(cpu_realtime_runtime=20_000))
    assert (tmp_path / "cpu/a/cpu.rt_runtime_us").read_text() == "30000"
    assert (tmp_path / "cpu/a/x/cpu.rt_runtime_us").read_text() == "20000"
    assert (tmp_path / "cpu/cpu.rt_runtime_us").read_text() == "950000"


def test_what_the_kernel_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(DockyardError, match=r"cannot set cpu\.shares to '5': No such file"):
        apply(Cgroup("/gone", tmp_path), HostConfig(cpu_shares=5))
    with pytest.raises(InvalidArgument, match="stat /dev/nonesuch: no such file"):
        apply(Cgroup("/gone", tmp_path), HostConfig(blkio_weight_device=[WeightDevice(path="/dev/nonesuch")]))
