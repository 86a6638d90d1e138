"""Every field of HostConfig acts, or is refused by name: one row each, in real containers."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.protocol import HostConfig
from tests.integration.api import request, run
from tests.integration.conftest import cgroup_directories, until
from tests.integration.tables import Inside, Refused

pytestmark = pytest.mark.root
V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
MB = 1 << 20
BLOCK_DEVICES = [path for path in Path("/dev").glob("*") if path.is_block_device()]
DEVICE = str(min(BLOCK_DEVICES, default=Path("/dev/null")))
NUMBER = f"{os.major(Path(DEVICE).stat().st_rdev)}:{os.minor(Path(DEVICE).stat().st_rdev)}"


@dataclass(frozen=True)
class Limit:
    """The cgroup has ``text`` in a file, named CONTROLLER/FILE for v1 and v2 (empty: this one has none, and warns)."""

    value: Any
    v1: str
    v2: str
    text: str
    text2: str = ""
    more: dict[str, Any] | None = None


@dataclass(frozen=True)
class Elsewhere:
    """It acts outside the container: ``test`` (file::function) asserts it."""

    test: str


ENGINE = "tests/unit/engine/test_engine.py"
TABLE: dict[str, Inside | Limit | Refused | Elsewhere] = {
    # -- resources
    "CpuShares": Limit(512, "cpu/cpu.shares", "cpu.weight", "512", "20"),
    "Memory": Limit(64 * MB, "memory/memory.limit_in_bytes", "memory.max", str(64 * MB)),
    "MemorySwap": Limit(96 * MB, "memory/memory.memsw.limit_in_bytes", "memory.swap.max", str(96 * MB), str(32 * MB),
                        {"Memory": 64 * MB}),
    "MemoryReservation": Limit(32 * MB, "memory/memory.soft_limit_in_bytes", "memory.low", str(32 * MB)),
    "MemorySwappiness": Limit(7, "memory/memory.swappiness", "", "7"),
    "OomKillDisable": Limit(True, "memory/memory.oom_control", "", "oom_kill_disable 1", more={"Memory": 64 * MB}),
    "KernelMemoryTCP": Limit(64 * MB, "memory/memory.kmem.tcp.limit_in_bytes", "", str(64 * MB)),
    "NanoCpus": Limit(500_000_000, "cpu/cpu.cfs_quota_us", "cpu.max", "50000", "50000 100000"),
    "CpuPeriod": Limit(50_000, "cpu/cpu.cfs_period_us", "cpu.max", "50000", "max 50000"),
    "CpuQuota": Limit(20_000, "cpu/cpu.cfs_quota_us", "cpu.max", "20000", "20000 100000"),
    "CpuRealtimeRuntime": Limit(5_000, "cpu/cpu.rt_runtime_us", "", "5000"),
    "CpuRealtimePeriod": Limit(500_000, "cpu/cpu.rt_period_us", "", "500000"),
    "CpusetCpus": Limit("0", "cpuset/cpuset.cpus", "cpuset.cpus", "0", "0"),
    "CpusetMems": Limit("0", "cpuset/cpuset.mems", "cpuset.mems", "0", "0"),
    "PidsLimit": Limit(17, "pids/pids.max", "pids.max", "17"),
    "BlkioWeight": Limit(300, "blkio/blkio.bfq.weight", "io.bfq.weight", "300"),
    "BlkioWeightDevice": Refused([{"Path": DEVICE, "Weight": 5}], 400, "Range of blkio weight"),
    "BlkioDeviceReadBps": Limit([{"Path": DEVICE, "Rate": MB}], "blkio/blkio.throttle.read_bps_device", "io.max",
                               f"{NUMBER} {MB}", f"rbps={MB}"),
    "BlkioDeviceWriteBps": Limit([{"Path": DEVICE, "Rate": MB}], "blkio/blkio.throttle.write_bps_device", "io.max",
                               f"{NUMBER} {MB}", f"wbps={MB}"),
    "BlkioDeviceReadIOps": Limit(
        [{"Path": DEVICE, "Rate": 99}], "blkio/blkio.throttle.read_iops_device", "io.max", f"{NUMBER} 99", "riops=99"
    ),
    "BlkioDeviceWriteIOps": Limit(
        [{"Path": DEVICE, "Rate": 99}], "blkio/blkio.throttle.write_iops_device", "io.max", f"{NUMBER} 99", "wiops=99"
    ),
    "Ulimits": Inside([{"Name": "nofile", "Soft": 100, "Hard": 200}], "ulimit -Sn; ulimit -Hn", "^100\n200$"),
    "OomScoreAdj": Inside(77, "cat /proc/self/oom_score_adj", "^77$"),
    "CgroupParent": Elsewhere("tests/integration/test_hostconfig.py::test_a_cgroup_of_its_own_above_the_container"),
    "CpuCount": Refused(1, 400, "CpuCount is not supported on linux"),
    "CpuPercent": Elsewhere("tests/unit/engine/test_hostconfig.py::test_what_this_host_has_not_is_said_in_warnings"),
    "IOMaximumIOps": Refused(1, 400, "QoS maximum IOPs configuration is not supported on linux"),
    "IOMaximumBandwidth": Refused(1, 400, "QoS maximum bandwidth configuration is not supported on linux"),
    # -- devices
    "Devices": Inside(
        [{"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/log", "CgroupPermissions": "r"}],
        "ls -l /dev/log; echo x > /dev/log", r"^c.* 1, +11 .*/dev/log\n.*(denied|not permitted)",
    ),
    "DeviceCgroupRules": Inside(["c 1:11 w"], "mknod /tmp/k c 1 11; : > /tmp/k && echo open", "^open$"),
    "DeviceRequests": Refused(
        [{"Count": -1, "Capabilities": [["gpu"]]}], 400, 'could not select device driver "" with capabilities: [[gpu]]'
    ),
    # -- privileges
    "CapAdd": Inside(["NET_ADMIN"], "ip link set lo mtu 1000 && echo done", "^done$"),
    "CapDrop": Inside(["ALL"], "grep CapEff /proc/self/status; chown 1 /tmp || echo no", "0000000000000000\n.*\n*no$"),
    "Privileged": Inside(True, "grep Seccomp: /proc/self/status; ls /dev/kmsg; mount -t tmpfs x /tmp && echo mounted",
                         r"Seccomp:\s+0\n/dev/kmsg\nmounted$"),
    "SecurityOpt": Inside(["no-new-privileges", "seccomp=unconfined"],
                          "grep -E 'Seccomp:|NoNewPrivs' /proc/self/status", r"NoNewPrivs:\s+1\nSeccomp:\s+0"),
    "GroupAdd": Inside(["4242"], "id -G", "4242"),
    "MaskedPaths": Inside(["/proc/uptime"], "wc -c < /proc/uptime; wc -l < /proc/timer_list", "^0$"),
    "ReadonlyPaths": Inside(["/proc/self"], "touch /proc/sys/net/ipv4/ip_forward && echo writable", "^writable$"),
    "ReadonlyRootfs": Inside(True, "touch /x; echo >> /etc/hosts", r"Read-only file system\n.*Read-only file system"),
    "UsernsMode": Refused("private", 501, "UsernsMode"),
    "Sysctls": Inside({"net.ipv4.ip_forward": "0", "kernel.shmmni": "123"},
                      "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni", "^0\n123$"),
    # -- namespaces
    "PidMode": Inside("host", "ls /proc | grep -c '^[0-9]'", r"^\d\d+$"),
    "IpcMode": Inside("none", "ls /dev/shm", "No such file"),
    "UTSMode": Inside("host", "hostname", f"^{re.escape(os.uname().nodename)}$"),
    "CgroupnsMode": Inside("host", "cat /proc/1/cgroup", "/dockyard-test-"),
    "Cgroup": Refused("container:x", 501, "Cgroup"),
    "NetworkMode": Inside("none", "ls /sys/class/net | grep eth0; echo $?", "^1$"),
    "Isolation": Refused("hyperv", 400, "invalid isolation (hyperv): linux only supports 'default'"),
    "Runtime": Refused("kata", 400, "unknown or invalid runtime name: kata"),
    # -- files
    "Binds": Inside(["/proc/version:/version:ro"], "cat /version; echo > /version", r"Linux version(.*\n)+.*Read-only"),
    "Mounts": Inside([{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": MB}}], "df -k /t", " 1024 "),
    "Tmpfs": Inside({"/t": "size=2m,exec"}, "mount | grep ' /t '", r"nosuid,nodev(?!.*noexec).*size=2048k"),
    "ShmSize": Inside(3 * MB, "df -k /dev/shm", " 3072 "),
    "VolumeDriver": Elsewhere("tests/integration/test_hostconfig.py::test_a_volume_driver_that_is_not_there"),
    "VolumesFrom": Refused(["x"], 400, "No such container: x"),
    "StorageOpt": Refused({"size": "1G"}, 501, "StorageOpt"),
    # -- names and network
    "Dns": Inside(["192.0.2.53"], "cat /etc/resolv.conf", "^nameserver 192.0.2.53$"),
    "DnsOptions": Inside(["ndots:7"], "cat /etc/resolv.conf", "^options ndots:7$"),
    "DnsSearch": Inside(["example.test"], "cat /etc/resolv.conf", "^search example.test$"),
    "ExtraHosts": Inside(["there:192.0.2.9", "up:host-gateway"], "cat /etc/hosts",
                         r"^192.0.2.9\tthere$(.*\n)*10.213.0.1\tup$"),
    "Links": Elsewhere("tests/integration/test_joining.py::test_a_linked_container_is_found_by_its_names"),
    "PublishAllPorts": Elsewhere("tests/integration/test_joining.py::test_all_exposed_ports_are_published"),
    "PortBindings": Elsewhere("tests/integration/test_port.py::test_a_published_port_is_in_inspect_when_start_returns"),
    # -- the process
    "Init": Inside(True, "cat /proc/1/comm", "^docker-init$"),
    "ConsoleSize": Inside([33, 77], "stty size", "^33 77$"),
    "Annotations": Elsewhere("tests/unit/execdriver/test_spec.py::test_golden"),
    # -- life
    "AutoRemove": Elsewhere(f"{ENGINE}::test_wait_knows_its_three_conditions"),
    "RestartPolicy": Elsewhere(f"{ENGINE}::test_restart_policies"),
    "LogConfig": Refused({"Type": "nonesuch"}, 400, "logger: no log driver named 'nonesuch' is registered"),
    "ContainerIDFile": Inside("/tmp/cid", "test -e /tmp/cid || echo 'the client writes it'", "^the client writes it$"),
}  # fmt: skip
FIELDS = {field.encode_name: field for field in msgspec.structs.fields(HostConfig)}


def test_no_field_is_left_out() -> None:
    assert set(TABLE) == set(FIELDS)


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if isinstance(row, Limit)])
def test_it_is_a_limit_of_the_cgroup(stack: Any, name: str) -> None:
    row = TABLE[name]
    assert isinstance(row, Limit)
    body = {"Image": "busybox", "Cmd": ["sleep", "60"], "HostConfig": {name: row.value, **(row.more or {})}}
    status, made = request(stack, "POST", "/containers/create", body)
    if status != 201 or made["Warnings"]:  # this kernel lacks it, and we say so
        assert "does not support" in str(made), made
        return
    assert row.v2 or not V2
    status, error = request(stack, "POST", f"/containers/{made['Id']}/start")
    assert status == 204, error
    controller, _, file = row.v1.partition("/")
    base = Path("/sys/fs/cgroup") if V2 else Path("/sys/fs/cgroup", controller)
    found = (base / stack.cgroup.lstrip("/") / made["Id"] / (row.v2 if V2 else file)).read_text()
    assert (row.text2 or row.text if V2 else row.text) in found
    shown = request(stack, "GET", f"/containers/{made['Id']}/json")[1]["HostConfig"][name]
    assert shown == row.value


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if isinstance(row, Elsewhere)])
def test_the_test_that_is_named_is_there(name: str) -> None:
    row = TABLE[name]
    assert isinstance(row, Elsewhere)
    path, _, function = row.test.partition("::")
    assert f"def {function}(" in (Path(__file__).parents[2] / path).read_text()


@pytest.mark.parametrize(("parent", "place"), [("{}-other", "{}-other"), ("../{}-other", "{}-other")])
def test_a_cgroup_of_its_own_above_the_container(stack: Any, parent: str, place: str) -> None:
    name = stack.cgroup.lstrip("/")
    try:
        host = {"CgroupParent": parent.format(name), "CgroupnsMode": "host"}
        assert f":/{place.format(name)}/" in run(stack, "cat /proc/1/cgroup", host)
        assert not [path for top in cgroup_directories(f"{name}-other") for path in top.iterdir() if path.is_dir()]
    finally:
        for path in cgroup_directories(f"{name}-other"):
            path.rmdir()


def test_fewer_open_files_than_the_runtime_needs(stack: Any) -> None:
    """The limit holds for the command, for execs, and for probes."""
    limits = ["--ulimit", "nofile=16:24"]
    probe = ["--health-cmd", "test $(ulimit -Hn) = 24", "--health-interval", "100ms"]
    stack.docker("run", "-d", "--name", "web", *limits, *probe, "busybox", "sh", "-c", "ulimit -n; exec sleep 1000")
    assert stack.out("logs", "web") == "16"
    assert stack.out("exec", "web", "sh", "-c", "ulimit -n; ulimit -Hn") == "16\n24"
    until(lambda: stack.out("inspect", "--format", "{{.State.Health.Status}}", "web") == "healthy")
    assert stack.out("run", "--rm", "--ulimit", "nofile=8", "busybox", "sh", "-c", "ulimit -n") == "8"


def test_a_volume_driver_that_is_not_there(stack: Any) -> None:
    host = {"VolumeDriver": "nonesuch", "Binds": ["data:/data"]}
    body = {"Image": "busybox", "Cmd": ["true"], "HostConfig": host}
    status, answer = request(stack, "POST", "/containers/create", body)
    assert status >= 400, answer
    assert "nonesuch" in answer["message"]


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if isinstance(row, Inside)])
def test_it_acts_inside(stack: Any, name: str) -> None:
    row = TABLE[name]
    assert isinstance(row, Inside)
    row.check(stack, name, in_host_config=True)


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if isinstance(row, Refused)])
def test_it_is_refused(stack: Any, name: str) -> None:
    row = TABLE[name]
    assert isinstance(row, Refused)
    row.check(stack, name)
