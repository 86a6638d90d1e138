"""Every flag of `docker run`: it reaches a field that acts (test_hostconfig, test_config), acts here, or is refused."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.integration import test_config, test_hostconfig
from tests.integration.api import request

pytestmark = pytest.mark.root
MB = 1 << 20
DEVICE = test_hostconfig.DEVICE


@dataclass(frozen=True)
class Field:
    """With ``value`` (the flag alone if None), `inspect` has ``shown`` at ``path``, which another table tests.

    ``since``: the major version of the docker command that sends it so. An older one sends nothing for rates.
    """

    value: str | None
    path: str
    shown: Any
    more: tuple[str, ...] = ()
    since: int = 0


@dataclass(frozen=True)
class Acts:
    """With ``value``, ``command`` in the container prints what ``prints`` matches."""

    value: str | None
    command: str
    prints: str
    more: tuple[str, ...] = ()
    since: int = 0


@dataclass(frozen=True)
class Refused:
    value: str | None
    text: str
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Elsewhere:
    """It acts in the client or outside the container: ``test`` (file::function) asserts it."""

    test: str


def rates(field: str, unit: int) -> Field:
    return Field(f"{DEVICE}:{unit}", f"HostConfig.{field}", [{"Path": DEVICE, "Rate": unit}], since=28)


BRIDGE = ("--network", "bridge")  # before 23 the client sends no such thing for the network that none was asked for
RUN, JOINING = "test_run.py", "test_joining.py"
FLAGS: dict[str, Field | Acts | Refused | Elsewhere] = {
    "add-host": Field("a:192.0.2.1", "HostConfig.ExtraHosts", ["a:192.0.2.1"]),
    "annotation": Field("a=b", "HostConfig.Annotations", {"a": "b"}, since=25),
    "attach": Elsewhere(f"{RUN}::test_only_the_streams_that_are_attached"),
    "blkio-weight": Field("300", "HostConfig.BlkioWeight", 300),
    "blkio-weight-device": Field(f"{DEVICE}:200", "HostConfig.BlkioWeightDevice", [{"Path": DEVICE, "Weight": 200}]),
    "cap-add": Field("NET_ADMIN", "HostConfig.CapAdd", ["CAP_NET_ADMIN"], since=28),
    "cap-drop": Field("ALL", "HostConfig.CapDrop", ["ALL"]),
    "cgroup-parent": Field("above", "HostConfig.CgroupParent", "above"),
    "cgroupns": Field("host", "HostConfig.CgroupnsMode", "host"),
    "cidfile": Elsewhere(f"{RUN}::test_detached_it_prints_its_id"),
    "cpu-count": Refused("1", "is only supported on a Docker daemon running on windows"),
    "cpu-percent": Elsewhere("../unit/engine/test_hostconfig.py::test_what_this_host_has_not_is_said_in_warnings"),
    "cpu-period": Field("50000", "HostConfig.CpuPeriod", 50_000),
    "cpu-quota": Field("20000", "HostConfig.CpuQuota", 20_000),
    "cpu-rt-period": Field("500000", "HostConfig.CpuRealtimePeriod", 500_000),
    "cpu-rt-runtime": Field("5000", "HostConfig.CpuRealtimeRuntime", 5_000, ("--cpu-rt-period", "500000")),
    "cpu-shares": Field("512", "HostConfig.CpuShares", 512),
    "cpus": Field("0.5", "HostConfig.NanoCpus", 500_000_000),
    "cpuset-cpus": Field("0", "HostConfig.CpusetCpus", "0"),
    "cpuset-mems": Field("0", "HostConfig.CpusetMems", "0"),
    "detach": Elsewhere(f"{RUN}::test_detached_it_prints_its_id"),
    "detach-keys": Elsewhere("test_attach.py::test_keys_of_ones_own_detach"),
    "device": Field("/dev/kmsg:/dev/log:r", "HostConfig.Devices", [
        {"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/log", "CgroupPermissions": "r"}]),
    "device-cgroup-rule": Field("c 1:11 w", "HostConfig.DeviceCgroupRules", ["c 1:11 w"]),
    "device-read-bps": rates("BlkioDeviceReadBps", MB),
    "device-read-iops": rates("BlkioDeviceReadIOps", 99),
    "device-write-bps": rates("BlkioDeviceWriteBps", MB),
    "device-write-iops": rates("BlkioDeviceWriteIOps", 99),
    "disable-content-trust": Acts(None, "echo on", "^on$"),
    "dns": Field("192.0.2.53", "HostConfig.Dns", ["192.0.2.53"]),
    "dns-option": Field("ndots:7", "HostConfig.DnsOptions", ["ndots:7"]),
    "dns-search": Field("example.test", "HostConfig.DnsSearch", ["example.test"]),
    "domainname": Field("example.test", "Config.Domainname", "example.test"),
    "entrypoint": Field("true", "Config.Entrypoint", ["true"]),
    "env": Field("A=b", "Config.Env", ["A=b"]),
    "env-file": Acts("{tmp}/env", "echo $FROM_FILE", "^a file$"),
    "expose": Field("99/udp", "Config.ExposedPorts", {"99/udp": {}}),
    "gpus": Refused("all", 'could not select device driver "" with capabilities: [[gpu]]'),
    "group-add": Field("4242", "HostConfig.GroupAdd", ["4242"]),
    "health-cmd": Field("true", "Config.Healthcheck", {"Test": ["CMD-SHELL", "true"]}),
    "health-interval": Field("5s", "Config.Healthcheck", {"Interval": 5_000_000_000}),
    "health-retries": Field("7", "Config.Healthcheck", {"Retries": 7}),
    "health-start-interval": Field("2s", "Config.Healthcheck", {"StartInterval": 2_000_000_000}, since=25),
    "health-start-period": Field("9s", "Config.Healthcheck", {"StartPeriod": 9_000_000_000}),
    "health-timeout": Field("3s", "Config.Healthcheck", {"Timeout": 3_000_000_000}),
    "help": Elsewhere("test_run_flags.py::test_no_flag_is_left_out"),
    "hostname": Field("there", "Config.Hostname", "there"),
    "init": Field(None, "HostConfig.Init", True),
    "interactive": Field(None, "Config.OpenStdin", True),
    "io-maxbandwidth": Refused("1m", "is only supported on a Docker daemon running on windows"),
    "io-maxiops": Refused("1", "is only supported on a Docker daemon running on windows"),
    "ip": Refused("10.213.0.77", "user specified IP address is supported on user defined networks only", BRIDGE),
    "ip6": Refused("2001:db8::33", "user specified IP address is supported on user defined networks only", BRIDGE),
    "ipc": Field("shareable", "HostConfig.IpcMode", "shareable"),
    "isolation": Refused("hyperv", "invalid isolation (hyperv): linux only supports 'default'"),
    "kernel-memory": Acts("64m", "echo on", "^on$", since=23),  # with API 1.42 clients no longer send it
    "label": Field("a=b", "Config.Labels", {"a": "b"}),
    "label-file": Field("{tmp}/labels", "Config.Labels", {"from": "a file"}),
    "link": Elsewhere(f"{JOINING}::test_a_linked_container_is_found_by_its_names"),
    "link-local-ip": Acts("169.254.1.1", "ip addr show eth0", "inet 169\\.254\\.1\\.1/16", BRIDGE),
    "log-driver": Refused("nonesuch", "nonesuch"),
    "log-opt": Field("max-size=1m", "HostConfig.LogConfig", {"Type": "json-file", "Config": {"max-size": "1m"}}),
    "mac-address": Acts("02:42:00:00:00:77", "cat /sys/class/net/eth0/address", "^02:42:00:00:00:77$"),
    "memory": Field("64m", "HostConfig.Memory", 64 * MB),
    "memory-reservation": Field("32m", "HostConfig.MemoryReservation", 32 * MB),
    "memory-swap": Field("96m", "HostConfig.MemorySwap", 96 * MB, ("-m", "64m")),
    "memory-swappiness": Field("7", "HostConfig.MemorySwappiness", 7),
    "mount": Acts("type=tmpfs,dst=/t,tmpfs-size=1m", "df -k /t", " 1024 "),
    "name": Elsewhere(f"{RUN}::test_detached_it_prints_its_id"),
    "network": Field("none", "HostConfig.NetworkMode", "none"),
    "network-alias": Refused("also", "network-scoped aliases are only supported for user-defined networks", BRIDGE),
    "no-healthcheck": Field(None, "Config.Healthcheck", {"Test": ["NONE"]}),
    "oom-kill-disable": Field(None, "HostConfig.OomKillDisable", True, ("-m", "64m")),
    "oom-score-adj": Field("77", "HostConfig.OomScoreAdj", 77),
    "pid": Field("host", "HostConfig.PidMode", "host"),
    "pids-limit": Field("17", "HostConfig.PidsLimit", 17),
    "platform": Elsewhere("test_run_flags.py::test_platform"),
    "privileged": Field(None, "HostConfig.Privileged", True),
    "publish": Field("127.0.0.1:8080:80", "HostConfig.PortBindings", {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}),
    "publish-all": Field(None, "HostConfig.PublishAllPorts", True),
    "pull": Elsewhere("test_run_flags.py::test_pull"),
    "quiet": Acts(None, "echo on", "^on$", since=23),
    "read-only": Field(None, "HostConfig.ReadonlyRootfs", True),
    "restart": Field("on-failure:3", "HostConfig.RestartPolicy", {"Name": "on-failure", "MaximumRetryCount": 3}),
    "rm": Elsewhere(f"{RUN}::test_run_prints_and_leaves_nothing"),
    "runtime": Refused("kata", "unknown or invalid runtime name: kata"),
    "security-opt": Field("no-new-privileges", "HostConfig.SecurityOpt", ["no-new-privileges"]),
    "shm-size": Field("3m", "HostConfig.ShmSize", 3 * MB),
    "sig-proxy": Elsewhere(f"{RUN}::test_signals_are_proxied"),
    "stop-signal": Field("USR1", "Config.StopSignal", "USR1"),
    "stop-timeout": Field("7", "Config.StopTimeout", 7),
    "storage-opt": Refused("size=1G", "StorageOpt"),
    "sysctl": Field("net.ipv4.ip_forward=0", "HostConfig.Sysctls", {"net.ipv4.ip_forward": "0"}),
    "tmpfs": Field("/t:size=2m", "HostConfig.Tmpfs", {"/t": "size=2m"}),
    "tty": Field(None, "Config.Tty", True),
    "ulimit": Field("nofile=100:200", "HostConfig.Ulimits", [{"Name": "nofile", "Soft": 100, "Hard": 200}]),
    "use-api-socket": Elsewhere("test_run_flags.py::test_the_socket_inside"),
    "user": Field("77:88", "Config.User", "77:88"),
    "userns": Refused("private", "--userns: invalid USER mode"),
    "uts": Field("host", "HostConfig.UTSMode", "host"),
    "volume": Field("data:/data", "HostConfig.Binds", ["data:/data"]),
    "volume-driver": Refused("nonesuch", "nonesuch", ("-v", "data:/data")),
    "volumes-from": Elsewhere("test_volume.py::test_volumes_from_another_container"),
    "workdir": Field("/tmp", "Config.WorkingDir", "/tmp"),
}  # fmt: skip


def chosen(kind: type[Any]) -> list[str]:
    return [flag for flag, row in FLAGS.items() if isinstance(row, kind)]


def options(flag: str, row: Any, directory: Path) -> list[str]:
    (directory / "env").write_text("FROM_FILE=a file\n")
    (directory / "labels").write_text("from=a file\n")
    value = [] if row.value is None else [row.value.replace("{tmp}", str(directory))]
    return [*row.more, f"--{flag}", *value]


def test_no_flag_is_left_out(stack: Any) -> None:
    there = set(re.findall(r"^ +(?:-\w, )? *--([a-z0-9-]+)", stack.out("run", "--help"), re.MULTILINE))
    assert there - set(FLAGS) == set()


@pytest.mark.parametrize("flag", chosen(Field))
def test_it_reaches_a_field_that_acts(stack: Any, flag: str, tmp_path: Path) -> None:
    row = FLAGS[flag]
    assert isinstance(row, Field)
    stack.needs(row.since, f"--{flag} as it is now; test_hostconfig and test_config have the field")
    section, _, field = row.path.partition(".")
    assert field in {"HostConfig": test_hostconfig.TABLE, "Config": test_config.TABLE}[section]
    made = stack.docker("create", "--name", "web", *options(flag, row, tmp_path), "busybox", "true", check=False)
    if made.returncode or "Discarded" in made.stderr:  # this kernel lacks it, and that is said
        assert "does not support" in made.stderr, made.stderr
        return
    shown = json.loads(stack.out("inspect", "web"))[0][section][field]
    if field == "Env":
        shown = [entry for entry in shown if not entry.startswith("PATH=")]
    assert shown == row.shown or (isinstance(row.shown, dict) and row.shown.items() <= shown.items()), shown


@pytest.mark.parametrize("flag", chosen(Acts))
def test_it_acts(stack: Any, flag: str, tmp_path: Path) -> None:
    row = FLAGS[flag]
    assert isinstance(row, Acts)
    stack.needs(row.since, f"--{flag} as it is now")
    printed = stack.out("run", "--rm", *options(flag, row, tmp_path), "busybox", "sh", "-c", row.command)
    assert re.search(row.prints, printed, re.MULTILINE), printed


@pytest.mark.parametrize("flag", chosen(Refused))
def test_it_is_refused(stack: Any, flag: str, tmp_path: Path) -> None:
    row = FLAGS[flag]
    assert isinstance(row, Refused)
    result = stack.docker("run", "--rm", *options(flag, row, tmp_path), "busybox", "true", check=False)
    assert (result.returncode in (1, 125), row.text in result.stderr) == (True, True), result.stderr
    assert stack.out("ps", "-aq") == ""


@pytest.mark.parametrize("flag", chosen(Elsewhere))
def test_the_test_that_is_named_is_there(flag: str) -> None:
    row = FLAGS[flag]
    assert isinstance(row, Elsewhere)
    path, _, function = row.test.partition("::")
    assert f"def {function}(" in (Path(__file__).parent / path).read_text()


@pytest.mark.parametrize(
    ("platform", "status"),
    [("linux", 201), ("linux/{}", 201), ("windows/amd64", 404), ("linux/s390x", 404), ("a/b/c/d", 400), ("!", 400)],
)
def test_platform(stack: Any, platform: str, status: int) -> None:
    own = stack.out("version", "-f", "{{.Server.Arch}}")
    path = f"/containers/create?platform={quote(platform.format(own))}"
    found, answer = request(stack, "POST", path, {"Image": "busybox", "Cmd": ["true"]})
    assert found == status, answer
    if status == 404:
        assert answer["message"] == (
            "image with reference busybox was found but does not match the specified platform: "
            f"wanted {platform}, actual: linux/{own}"
        )


def test_pull(stack: Any) -> None:
    assert stack.out("run", "--rm", "--pull", "never", "busybox", "echo", "on") == "on"
    missing = stack.docker("run", "--rm", "--pull", "never", "nonesuch", "true", check=False)
    assert (missing.returncode, "No such image: nonesuch:latest" in missing.stderr) == (125, True)


def test_the_socket_inside(stack: Any) -> None:
    """The client binds /var/run/docker.sock of the host, whatever socket it speaks to itself: there may be none."""
    if "--use-api-socket" not in stack.out("create", "--help"):
        pytest.skip("this docker command has no --use-api-socket")
    result = stack.docker("create", "--name", "web", "--use-api-socket", "busybox", "true", check=False)
    if result.returncode:
        assert "docker.sock" in result.stderr
        return
    mounts = json.loads(stack.out("inspect", "-f", "{{json .HostConfig}}", "web"))
    assert "docker.sock" in json.dumps(mounts)
