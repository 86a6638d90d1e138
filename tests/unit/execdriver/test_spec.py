"""config.json is what it was: golden files (`make golden` rewrites them, the diff is reviewed)."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.execdriver import capabilities as caps
from services.execdriver.bundle import Start
from services.execdriver.capabilities import capabilities
from services.execdriver.seccomp import seccomp_profile
from services.execdriver.spec import build_spec, environment
from shared.protocol import (
    ContainerConfig,
    DeviceMapping,
    HostConfig,
    Interface,
    InvalidArgument,
    RuntimeStart,
    Ulimit,
)
from shared.runtime.user import User

GOLDEN = Path(__file__).parents[2] / "golden" / "oci"
ROOT = User(0, 0, [], "/root")


@pytest.fixture(autouse=True)
def one_kind_of_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(caps, "_bounding_set", lambda: (1 << 41) - 1)
    monkeypatch.setattr("services.execdriver.spec.compile_filter", lambda profile: None)


def job(host: dict[str, Any] | None = None, **config: Any) -> RuntimeStart:
    return RuntimeStart(
        container="c" * 64,
        generation=1,
        name="web",
        rootfs="/rootfs",
        directory="/state",
        args=["sh", "-c", "true"],
        config=ContainerConfig(hostname="box", env=["PATH=/bin"], **config),
        host_config=HostConfig(**{"shm_size": 64 << 20, **(host or {})}),
        interface=Interface(mode="bridge", netns="/netns/web"),
    )


CASES: dict[str, tuple[RuntimeStart, User]] = {
    "default": (job(), ROOT),
    "limits": (
        job({"memory": 64 << 20, "nano_cpus": 1_500_000_000, "pids_limit": 10, "cpuset_cpus": "0", "blkio_weight": 300,
             "ulimits": [Ulimit(name="nofile", soft=1, hard=2)], "oom_score_adj": 7}),
        ROOT,
    ),
    "user-and-terminal": (
        job({"console_size": [24, 80], "readonly_rootfs": True, "cap_drop": ["ALL"], "cap_add": ["NET_ADMIN"],
             "security_opt": ["no-new-privileges", "seccomp=unconfined"], "sysctls": {"net.ipv4.ip_forward": "1"}},
            tty=True, working_dir="/srv", domainname="example.test"),
        User(1000, 1001, [25], "/home/guest"),
    ),
    "host-namespaces": (
        job({"pid_mode": "host", "ipc_mode": "host", "uts_mode": "host", "cgroupns_mode": "host",
             "tmpfs": {"/scratch": "size=1m"},
             "security_opt": ["systempaths=unconfined"], "annotations": {"a": "b"}}),
        ROOT,
    ),
    "joined": (
        msgspec.structs.replace(
            job({"network_mode": "container:x", "pid_mode": "container:x", "ipc_mode": "container:x", "init": True}),
            interface=Interface(mode="container"),
        ),
        ROOT,
    ),
    "devices-and-rules": (
        job({"devices": [DeviceMapping(path_on_host="/dev/null", path_in_container="/dev/nil", cgroup_permissions="r")],
             "device_cgroup_rules": ["c 42:* rwm", "b 8:1 r"], "group_add": ["25"], "ipc_mode": "none",
             "ulimits": [Ulimit(name="core", soft=-1, hard=-1)], "cgroupns_mode": "private",
             "masked_paths": [], "readonly_paths": ["/proc/x"]}, stop_signal="TERM"),
        ROOT,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    request, user = CASES[name]
    shm = {"host-namespaces": "/dev/shm", "joined": "/run/other/shm"}.get(name, "")
    joined = {kind: f"/proc/1/fd/{kind}" for kind in ("network", "pid", "ipc")} if name == "joined" else {}
    made = build_spec(request, user, Start(1, f"/dockyard/{request.container}", shm), joined)
    text = json.dumps(made, indent=1, sort_keys=True) + "\n"
    path = GOLDEN / f"{name}.json"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("host", "error", "text"),
    [
        ({"cap_add": ["FLY"]}, InvalidArgument, 'unknown capability: "CAP_FLY"'),
        ({"security_opt": ["colour=blue"]}, InvalidArgument, "colour=blue"),
        ({"security_opt": ["seccomp={"]}, InvalidArgument, "Decoding seccomp profile failed"),
        ({"devices": [DeviceMapping(path_on_host="/dev/none")]}, InvalidArgument, "no such file or directory"),
        ({"devices": [DeviceMapping(path_on_host="/etc")]}, InvalidArgument, '"/etc": not a device node'),
    ],
)
def test_what_cannot_be_is_refused_by_name(host: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        build_spec(job(host), ROOT, Start(1, "/x"))
    assert text in str(caught.value)


def test_capabilities() -> None:
    default = capabilities([], [], privileged=False)
    assert len(default) == 14
    assert capabilities(["ALL"], [], privileged=False) == capabilities([], [], privileged=True)
    assert capabilities([], ["all"], privileged=False) == []
    assert capabilities(["CAP_SYS_TIME"], ["ALL"], privileged=False) == ["CAP_SYS_TIME"]
    assert set(default) - set(capabilities([], ["chown"], privileged=False)) == {"CAP_CHOWN"}


def test_a_profile_in_dockers_format_is_translated() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []}],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["reboot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_BOOT"]}},
            {"names": ["arm_only"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
        ],
    }
    made = seccomp_profile(json.dumps(profile), ["CAP_KILL"], privileged=False)
    assert made is not None
    assert [rule["names"] for rule in made["syscalls"]] == [["read"]]


def test_privileged_is_unconfined_unless_a_profile_is_named() -> None:
    assert seccomp_profile("", [], privileged=True) is None
    assert seccomp_profile("builtin", [], privileged=True) is not None


def test_a_variable_without_a_value_is_not_there() -> None:
    made = environment(["ONE=1", "TWO", "HOSTNAME", "BLANK="], "box", ROOT, tty=True)
    assert made == ["ONE=1", "BLANK=", "TERM=xterm", "HOME=/root"]


def test_an_empty_home_is_none() -> None:
    assert environment(["HOME=", "A="], "", ROOT, tty=False) == ["A=", "HOME=/root"]
