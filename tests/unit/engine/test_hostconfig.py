"""Every field of HostConfig acts or is refused by name: what is wrong with each, and what it becomes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from services.engine import hostconfig
from shared.protocol import (
    ContainerConfig,
    CreateContainer,
    DeviceMapping,
    DeviceRequest,
    EndpointSettings,
    HostConfig,
    InspectContainer,
    InvalidArgument,
    LogConfig,
    NetworkingConfig,
    NotImplementedByUs,
    PortBinding,
    RestartPolicy,
    RuntimeStart,
    StartContainer,
    Ulimit,
)
from tests.unit.engine.doing import create


def shown(stack: Any, **host: Any) -> HostConfig:
    container = create(stack, **host)
    host_config: HostConfig = stack.client.call(InspectContainer(container=container)).host_config
    return host_config


def started(stack: Any, name: str = "web") -> RuntimeStart:
    stack.client.call(StartContainer(container=name))
    job: RuntimeStart = next(job for job in reversed(stack.world.calls) if isinstance(job, RuntimeStart))
    return job


def test_defaults_are_those_that_tools_compare(stack: Any) -> None:
    found = shown(stack)
    assert (found.network_mode, found.ipc_mode, found.runtime) == ("bridge", "private", "crun")
    assert (found.shm_size, found.pids_limit, found.restart_policy.name) == (64 << 20, None, "no")
    assert found.console_size == [0, 0]
    assert found.log_config == LogConfig("json-file", {})
    assert "/proc/kcore" in (found.masked_paths or [])
    assert "/proc/sys" in (found.readonly_paths or [])


@pytest.mark.parametrize(
    ("version", "asked", "mode"),
    [("1", "", "host"), ("2", "", "private"), ("1", "private", "private"), ("2", "host", "host")],
)
def test_the_cgroup_namespace_goes_by_the_host(
    stack: Any, monkeypatch: pytest.MonkeyPatch, version: str, asked: str, mode: str
) -> None:
    """wire-details §12: its own with cgroup v2, the host's with v1; what is asked for is had on both."""
    monkeypatch.setattr(hostconfig, "facts", lambda: SimpleNamespace(cgroup_version=version))
    assert shown(stack, cgroupns_mode=asked).cgroupns_mode == mode


@pytest.mark.parametrize(
    ("host", "becomes"),
    [
        ({"network_mode": "default"}, {"network_mode": "bridge"}),
        ({"memory": 8 << 20}, {"memory_swap": 16 << 20}),
        ({"pids_limit": -1}, {"pids_limit": None}),
        ({"pids_limit": 0}, {"pids_limit": None}),
        ({"memory_swappiness": -1}, {"memory_swappiness": None}),
        ({"privileged": True}, {"masked_paths": [], "readonly_paths": []}),
        ({"security_opt": ["systempaths=unconfined"]}, {"masked_paths": [], "readonly_paths": []}),
        ({"masked_paths": ["/x"], "readonly_paths": []}, {"masked_paths": ["/x"], "readonly_paths": []}),
        ({"cpu_percent": 5}, {"cpu_percent": 0}),
        ({"restart_policy": RestartPolicy(name="")}, {"restart_policy": RestartPolicy(name="no")}),
    ],
)
def test_what_a_field_becomes(stack: Any, host: dict[str, Any], becomes: dict[str, Any]) -> None:
    found = shown(stack, **host)
    assert {name: getattr(found, name) for name in becomes} == becomes


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ({"shm_size": -1}, "SHM size can not be less than 0"),
        ({"oom_score_adj": 1001}, r"Invalid value 1001, range for oom score adj is \[-1000, 1000\]"),
        ({"console_size": [1]}, "invalid ConsoleSize"),
        ({"cpu_count": 1}, "CpuCount is not supported on linux"),
        ({"io_maximum_bandwidth": 1}, "QoS maximum bandwidth configuration is not supported on linux"),
        ({"io_maximum_iops": 1}, "QoS maximum IOPs configuration is not supported on linux"),
        ({"annotations": {"": "x"}}, "invalid Annotations"),
        ({"isolation": "hyperv"}, r"invalid isolation \(hyperv\): linux only supports 'default'"),
        ({"runtime": "kata"}, "unknown or invalid runtime name: kata"),
        ({"ipc_mode": "shared"}, "invalid IPC mode: shared"),
        ({"ipc_mode": "container:"}, "invalid IPC mode: container:"),
        ({"pid_mode": "private"}, "invalid PID mode: private"),
        ({"uts_mode": "container:x"}, "invalid UTS mode: container:x"),
        ({"cgroupns_mode": "shared"}, "invalid cgroup namespace mode: shared"),
        ({"network_mode": "container"}, "invalid network mode: invalid container format container:<name|id>"),
        ({"network_mode": "container:"}, "invalid network mode: invalid container format"),
        ({"network_mode": "container:x", "dns": ["1.1.1.1"]}, "conflicting options: dns and the network mode"),
        ({"network_mode": "container:x", "extra_hosts": ["a:1.1.1.1"]}, "custom host-to-IP mapping and the network"),
        ({"network_mode": "container:x", "port_bindings": {"80/tcp": None}}, "port publishing and the container type"),
        ({"network_mode": "container:x", "publish_all_ports": True}, "port publishing and the container type"),
        ({"network_mode": "container:x", "links": ["x"]}, "container type network can't be used with links"),
        ({"network_mode": "host", "links": ["x"]}, "host type networking can't be used with links"),
        ({"sysctls": {"kernel.hostname": "x"}}, 'sysctl "kernel.hostname" is not in a separate kernel namespace'),
        ({"sysctls": {"vm.swappiness": "1"}}, "is not in a separate kernel namespace"),
        ({"sysctls": {"net/../kernel/x y": "1"}}, "invalid sysctl"),
        ({"sysctls": {"net.a": "1"}, "network_mode": "host"}, "not allowed in host network namespace"),
        ({"sysctls": {"fs.mqueue.msg_max": "1"}, "ipc_mode": "host"}, "not allowed in the hosts ipc namespace"),
        ({"sysctls": {"kernel.domainname": "1"}, "uts_mode": "host"}, "not allowed in the hosts UTS namespace"),
        ({"ulimits": [Ulimit("wings", 1, 1)]}, "invalid ulimit type: wings"),
        ({"ulimits": [Ulimit("core", 2, 1)]}, "ulimit soft limit must be less than or equal to hard limit: 2 > 1"),
        ({"ulimits": [Ulimit("core", -1, 1)]}, "ulimit soft limit must be less than or equal to hard limit: -1 > 1"),
        ({"ulimits": [Ulimit("core", -2, -2)]}, "invalid ulimit core"),
        ({"tmpfs": {"x": ""}}, "invalid mount path: 'x' mount path must be absolute"),
        ({"tmpfs": {"/": ""}}, "destination can't be '/'"),
        ({"tmpfs": {"/x": "size=1m,loud"}}, r'invalid tmpfs option \["loud"\]'),
        ({"devices": [DeviceMapping("null")]}, "invalid device path"),
        ({"devices": [DeviceMapping("/dev/null", "x")]}, "invalid device path"),
        ({"devices": [DeviceMapping("/dev/null", "", "rx")]}, "invalid device mode: rx"),
        ({"device_cgroup_rules": ["c 1:3"]}, "invalid device cgroup rule format: 'c 1:3'"),
        ({"device_cgroup_rules": ["x 1:3 r"]}, "invalid device cgroup rule format"),
        (
            {"device_requests": [DeviceRequest(count=-1, capabilities=[["gpu", "utility"]])]},
            r'could not select device driver "" with capabilities: \[\[gpu utility\]\]',
        ),
        ({"extra_hosts": ["web"]}, 'bad format for add-host: "web"'),
        ({"extra_hosts": ["a b:1.1.1.1"]}, "bad format for add-host"),
        ({"extra_hosts": ["web:here"]}, 'invalid IP address in add-host: "here"'),
        ({"dns": ["here"]}, "bad nameserver address: here"),
        ({"dns_search": ["a\nnameserver 1.1.1.1"]}, "invalid value in dns search"),
        ({"dns_options": ["a b"]}, "invalid value in dns options"),
        ({"port_bindings": {"http": None}}, 'invalid port specification: "http"'),
        ({"port_bindings": {"80/tcp": [PortBinding(host_port="x")]}}, 'invalid port specification: "x"'),
        ({"port_bindings": {"80/tcp": [PortBinding(host_port="65536")]}}, 'invalid port specification: "65536"'),
        ({"port_bindings": {"80/tcp": [PortBinding(host_ip="127.1")]}}, "invalid host IP address: 127.1"),
        ({"port_bindings": {"80/tcp": [PortBinding(host_port="90-80")]}}, 'invalid port specification: "90-80"'),
        ({"pid_mode": "container:nope"}, "No such container: nope"),
        ({"ipc_mode": "container:nope"}, "No such container: nope"),
        ({"cap_add": ["FLY"]}, 'invalid CapAdd: unknown capability: "CAP_FLY"'),
        ({"cap_drop": ["CAP_FLY"]}, 'invalid CapDrop: unknown capability: "CAP_FLY"'),
        ({"security_opt": ["no-new-privileges:maybe"]}, 'invalid --security-opt 2: "no-new-privileges:maybe"'),
        ({"security_opt": ["colour=blue"]}, 'invalid --security-opt 2: "colour=blue"'),
        ({"security_opt": ["colour"]}, 'invalid --security-opt 1: "colour"'),
        ({"security_opt": ["systempaths=all"]}, "invalid --security-opt 2"),
        ({"restart_policy": RestartPolicy("now")}, "invalid restart policy 'now'"),
        ({"restart_policy": RestartPolicy("always", 3)}, "maximum retry count can only be used with 'on-failure'"),
        ({"restart_policy": RestartPolicy("on-failure", -3)}, "maximum retry count cannot be negative"),
        ({"restart_policy": RestartPolicy("always"), "auto_remove": True}, "can't create 'AutoRemove' container with"),
        ({"links": ["nobody:db"]}, "could not get container for nobody: No such container: nobody"),
        ({"links": [":db"]}, "bad format for links"),
        ({"links": ["a:b:c"]}, "bad format for links"),
    ],
)
def test_what_is_wrong_is_400(stack: Any, host: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        create(stack, **host)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ({"storage_opt": {"size": "1G"}}, "StorageOpt"),
        ({"userns_mode": "keep-id"}, "UsernsMode"),
        ({"cgroup": "container:x"}, "Cgroup"),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(stack: Any, host: dict[str, Any], name: str) -> None:
    with pytest.raises(NotImplementedByUs, match=name):
        create(stack, **host)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"working_dir": "here"}, "the working directory 'here' is invalid, it needs to be an absolute path"),
        ({"stop_signal": "SIGNONE"}, "Invalid signal: SIGNONE"),
        ({"env": ["=x"]}, "invalid environment variable: =x"),
        ({"exposed_ports": {"70000/tcp": {}}}, 'invalid port specification: "70000/tcp"'),
        ({"exposed_ports": {"0": {}}}, "invalid port specification"),
        ({"cmd": []}, None),
    ],
)
def test_config_is_checked_too(stack: Any, config: dict[str, Any], text: str | None) -> None:
    job = CreateContainer(config=ContainerConfig(image="busybox", **config))
    if text is None:
        assert stack.client.call(job).id
        return
    with pytest.raises(InvalidArgument, match=text):
        stack.client.call(job)


def test_a_host_name_does_not_go_with_another_ones_names(stack: Any) -> None:
    for host, text in (
        ({"uts_mode": "host"}, "conflicting options: hostname and the UTS mode"),
        ({"network_mode": "container:x"}, "conflicting options: hostname and the network mode"),
    ):
        job = CreateContainer(config=ContainerConfig(image="busybox", hostname="h"), host_config=HostConfig(**host))
        with pytest.raises(InvalidArgument, match=text):
            stack.client.call(job)


def test_what_this_host_has_not_is_said_in_warnings(stack: Any) -> None:
    host = HostConfig(security_opt=["apparmor=mine", "label=type:x", "label=disable"], cpu_percent=5)
    job = CreateContainer(config=ContainerConfig(image="busybox"), host_config=host)
    warnings = " ".join(stack.client.call(job).warnings)
    assert "linux does not support CPU percent" in warnings
    assert ("AppArmor" in warnings) == ("AppArmor. Profile mine" in warnings)


def test_all_exposed_ports_are_published_on_demand(stack: Any) -> None:
    config = ContainerConfig(image="busybox", exposed_ports={"80/tcp": {}, "53/udp": {}})
    host = HostConfig(publish_all_ports=True, port_bindings={"80/tcp": [PortBinding(host_port="8080")]})
    stack.client.call(CreateContainer(name="web", config=config, host_config=host))
    stack.client.call(StartContainer(container="web"))
    (job,) = [job for job in stack.world.calls if type(job).__name__ == "AllocateInterface"]
    assert job.ports == {"80/tcp": [PortBinding(host_port="8080")], "53/udp": []}


def test_a_port_without_bindings_is_not_published(stack: Any) -> None:
    host = HostConfig(port_bindings={"80/tcp": [], "81/tcp": None})
    stack.client.call(CreateContainer(name="web", config=ContainerConfig(image="busybox"), host_config=host))
    stack.client.call(StartContainer(container="web"))
    (job,) = [job for job in stack.world.calls if type(job).__name__ == "AllocateInterface"]
    assert job.ports == {}


def test_what_is_no_mac_address_is_said_at_create(stack: Any) -> None:
    for text in ("00:00:00:00:00:00", "01:00:00:00:00:01", "x"):
        config = ContainerConfig(image="busybox", mac_address=text)
        with pytest.raises(InvalidArgument, match=f"^invalid MAC address: {text}$"):
            stack.client.call(CreateContainer(name="web", config=config))


def test_the_mac_address_may_be_the_endpoints(stack: Any) -> None:
    endpoints = NetworkingConfig(endpoints_config={"bridge": EndpointSettings(mac_address="02:00:00:00:00:07")})
    config = ContainerConfig(image="busybox")
    stack.client.call(CreateContainer(name="web", config=config, networking_config=endpoints))
    stack.client.call(StartContainer(container="web"))
    (job,) = [job for job in stack.world.calls if type(job).__name__ == "AllocateInterface"]
    assert job.mac_address == "02:00:00:00:00:07"
    config.mac_address = "02:00:00:00:00:08"
    with pytest.raises(InvalidArgument, match="the container-wide MAC address must match"):
        stack.client.call(CreateContainer(config=config, networking_config=endpoints))


def test_the_gateway_of_the_host_is_put_in(stack: Any) -> None:
    create(stack, extra_hosts=["up:host-gateway", "other=10.0.0.1", "six:[::1]"], network_mode="none")
    assert started(stack).host_config.extra_hosts == ["up:192.0.2.1", "other=10.0.0.1", "six:[::1]"]


def test_a_variable_without_a_value_is_shown_and_replaces_the_images(stack: Any) -> None:
    config = ContainerConfig(image="busybox", env=["LANG", "FOO", "ONE=1", "BLANK="])
    stack.client.call(CreateContainer(name="web", config=config))
    shown = stack.client.call(InspectContainer(container="web")).config.env or []
    assert {"LANG", "FOO", "ONE=1", "BLANK="} < set(shown)
    assert "LANG=C" not in shown
    assert started(stack).config.env == shown
