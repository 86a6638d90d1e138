"""Limits are checked against what the kernel can: what is wrong is refused, what it lacks is discarded aloud."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.engine.resources import check_resources
from services.engine.sysinfo import SysInfo, parse_list, read_sysinfo
from shared.protocol import HostConfig, InvalidArgument, ThrottleDevice, WeightDevice

ALL = SysInfo(ncpu=4, cpus="0-3", memory_nodes="0")
MB = 1 << 20


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ({"memory": MB}, "Minimum memory limit allowed is 6MB"),
        ({"memory": -1}, "Minimum memory limit allowed is 6MB"),
        ({"memory": 10 * MB, "memory_swap": 9 * MB}, "Minimum memoryswap limit should be larger than memory limit"),
        ({"memory_swap": 9 * MB}, "You should always set the Memory limit when using Memoryswap limit"),
        ({"memory_swap": -2}, "invalid MemorySwap: -2"),
        ({"memory_swappiness": 101}, "Invalid value: 101, valid memory swappiness range is 0-100"),
        ({"memory_reservation": MB}, "Minimum memory reservation allowed is 6MB"),
        ({"memory": 7 * MB, "memory_reservation": 8 * MB}, "can not be less than memory reservation limit"),
        ({"nano_cpus": 10**9, "cpu_period": 5000}, "Nano CPUs and CPU Period cannot both be set"),
        ({"nano_cpus": 10**9, "cpu_quota": 5000}, "Nano CPUs and CPU Quota cannot both be set"),
        ({"nano_cpus": 5 * 10**9}, "Range of CPUs is from 0.01 to 4.00, as there are only 4 CPUs available"),
        ({"nano_cpus": -1}, "Range of CPUs is from 0.01 to 4.00"),
        ({"cpu_shares": -1}, r"invalid CPU shares \(-1\): value must be a positive integer"),
        ({"cpu_period": 999}, "CPU cfs period can not be less than 1ms"),
        ({"cpu_period": 1_000_001}, "or larger than 1s"),
        ({"cpu_quota": 999}, "CPU cfs quota can not be less than 1ms"),
        ({"cpu_quota": -2}, "CPU cfs quota"),
        ({"cpu_realtime_period": 5, "cpu_realtime_runtime": 6}, "cpu real-time runtime cannot be higher than"),
        ({"cpu_realtime_runtime": -1}, "cpu real-time values must be positive"),
        ({"cpuset_cpus": "0-x"}, "Invalid value 0-x for cpuset cpus"),
        ({"cpuset_cpus": "3-0"}, "Invalid value 3-0 for cpuset cpus"),
        ({"cpuset_cpus": "2-4"}, "Requested CPUs are not available - requested 2-4, available: 0-3"),
        ({"cpuset_mems": "1"}, "Requested memory nodes are not available - requested 1, available: 0"),
        ({"blkio_weight": 9}, "Range of blkio weight is from 10 to 1000"),
        ({"blkio_weight_device": [WeightDevice(path="/d", weight=1001)]}, "Range of blkio weight is from 10 to 1000"),
        ({"blkio_device_read_bps": [ThrottleDevice(path="/d", rate=0)]}, "invalid rate for device /d: 0"),
    ],
)
def test_what_makes_no_sense_is_refused(host: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        check_resources(HostConfig(**host), ALL)


@pytest.mark.parametrize(
    ("lacks", "host", "warning"),
    [
        ("memory", {"memory": 8 * MB}, "does not support memory limit capabilities"),
        ("swap", {"memory": 8 * MB, "memory_swap": 9 * MB}, "Memory limited without swap."),
        ("swappiness", {"memory_swappiness": 5}, "Memory swappiness discarded."),
        ("reservation", {"memory_reservation": 8 * MB}, "soft limit capabilities"),
        ("kernel_memory_tcp", {"kernel_memory_tcp": 5}, "kernel memory TCP limit"),
        ("oom_kill_disable", {"oom_kill_disable": True, "memory": 8 * MB}, "OomKillDisable discarded."),
        ("cpu_shares", {"cpu_shares": 5}, "Shares discarded."),
        ("cpu_quota", {"cpu_quota": 5000}, "CPU period/quota discarded."),
        ("cpuset", {"cpuset_cpus": "0"}, "Cpuset discarded."),
        ("pids", {"pids_limit": 5}, "PIDs limit discarded."),
        ("block_weight", {"blkio_weight": 50}, "Weight discarded."),
        ("block_weight", {"blkio_weight_device": [WeightDevice(path="/d", weight=50)]}, "Weight-device discarded."),
        ("block_throttle", {"blkio_device_write_iops": [ThrottleDevice(path="/d", rate=5)]}, "IOPS Block write limit"),
    ],
)
def test_what_the_kernel_lacks_is_discarded_with_a_warning(lacks: str, host: dict[str, Any], warning: str) -> None:
    given = HostConfig(**host)
    assert not check_resources(HostConfig(**host), ALL)
    (said,) = check_resources(given, replace(ALL, **{lacks: False}))
    assert warning in said
    field = next(iter(host))
    assert getattr(given, field) != host[field] or lacks == "swap"


def test_realtime_and_cpus_are_refused_where_the_kernel_lacks_them() -> None:
    with pytest.raises(InvalidArgument, match="kernel does not support CPU real-time scheduler"):
        check_resources(HostConfig(cpu_realtime_runtime=5), replace(ALL, realtime=False))
    with pytest.raises(InvalidArgument, match="NanoCPUs can not be set"):
        check_resources(HostConfig(nano_cpus=10**9), replace(ALL, cpu_quota=False))


def test_no_killer_without_a_limit_is_worth_a_warning() -> None:
    (said,) = check_resources(HostConfig(oom_kill_disable=True), ALL)
    assert "OOM killer is disabled" in said
    assert not check_resources(HostConfig(oom_kill_disable=True, memory=8 * MB), ALL)


def test_an_update_may_give_swap_alone() -> None:
    assert not check_resources(HostConfig(memory_swap=8 * MB), ALL, update=True)


def test_minus_one_is_no_swappiness() -> None:
    given = HostConfig(memory_swappiness=-1)
    assert not check_resources(given, ALL)
    assert given.memory_swappiness is None


def test_lists_as_the_kernel_writes_them() -> None:
    assert parse_list("0-2,7") == {0, 1, 2, 7}
    assert parse_list("") == set()
    for wrong in ("x", "1-", "-1", "0-100000000", "²"):
        with pytest.raises(InvalidArgument):
            parse_list(wrong)


def test_a_host_with_cgroup_v1(tmp_path: Path) -> None:
    for file in ("memory/memory.limit_in_bytes", "cpu/cpu.shares", "cpuset/cpuset.effective_cpus", "pids/x",
                 "blkio/blkio.bfq.io_service_bytes"):  # fmt: skip
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("0-1\n")
    found = read_sysinfo(tmp_path, tmp_path)
    assert (found.memory, found.swap, found.cpu_shares, found.cpu_quota, found.realtime) == (
        True, False, True, False, False,
    )  # fmt: skip
    assert (found.cpus, found.pids, found.block_weight, found.apparmor, found.selinux) == (
        "0-1",
        True,
        True,
        False,
        False,
    )


def test_a_host_with_cgroup_v2(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory\n")
    (tmp_path / "cpuset.cpus.effective").write_text("0-7\n")
    found = read_sysinfo(tmp_path, tmp_path)
    assert (found.memory, found.swap, found.cpu_quota, found.pids, found.cpus) == (True, True, True, False, "0-7")
    assert (found.swappiness, found.oom_kill_disable, found.realtime) == (False, False, False)
    (tmp_path / "system.slice").mkdir()
    (tmp_path / "system.slice/memory.stat").touch()  # with the controller, without the account of swap
    assert not read_sysinfo(tmp_path, tmp_path).swap
    assert not found.block_weight
    (tmp_path / "block/vda/queue").mkdir(parents=True)
    (tmp_path / "block/vda/queue/scheduler").write_text("none mq-deadline [bfq]\n")
    assert read_sysinfo(tmp_path, tmp_path).block_weight
    (tmp_path / "module/apparmor/parameters").mkdir(parents=True)
    (tmp_path / "module/apparmor/parameters/enabled").write_text("Y\n")
    assert read_sysinfo(tmp_path, tmp_path).apparmor
