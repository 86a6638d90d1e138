"""What the engine makes of settings: restart, registries, fixed-cidr."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
import zmq

from services.engine.registries import registry_config
from shared.bus.sockets import dealer, engine_endpoint
from shared.protocol import (
    AwaitService,
    Conflict,
    DockyardError,
    Frame,
    Header,
    InitNetworkDriver,
    InspectNetwork,
    Kind,
    ListServices,
    Registration,
    RestartPolicy,
    StartContainer,
    SystemInfo,
    encode_body,
)
from shared.runtime.config import RUNTIMES, Config
from tests.unit.engine.doing import create, state_of, until


def reconfigure(stack: Any, **settings: object) -> None:
    stack.config = dataclasses.replace(stack.config, **settings)
    stack.restart_engine()
    stack.client.call(AwaitService(service="engine"))


def test_restart_policies_are_honoured_at_the_start_unless_told_not_to(stack: Any) -> None:
    ended = create(stack, "ended", restart_policy=RestartPolicy(name="always"))
    runs = create(stack, "runs", restart_policy=RestartPolicy(name="always"))
    for container in (ended, runs):
        stack.client.call(StartContainer(container=container))
    del stack.world.running[ended]  # as after a power cut
    reconfigure(stack, restart=False)
    assert state_of(stack, ended).status == "exited"
    assert state_of(stack, runs).status == "running"
    assert set(stack.world.running) == {runs}
    reconfigure(stack, restart=True)
    until(stack, ended, "running")


def test_info_tells_of_registries_and_that_containers_live_on(stack: Any) -> None:
    reconfigure(
        stack,
        registry_mirrors=("https://mirror.example:5000", "http://second.example/"),
        insecure_registries=("box:5000", "10.0.0.0/8"),
    )
    info = stack.client.call(SystemInfo())
    assert info["LiveRestoreEnabled"] is True
    assert info["RegistryConfig"] == {
        "Mirrors": ["https://mirror.example:5000/", "http://second.example/"],
        "InsecureRegistryCIDRs": ["10.0.0.0/8", "127.0.0.0/8"],
        "IndexConfigs": {
            "docker.io": {
                "Name": "docker.io",
                "Mirrors": ["https://mirror.example:5000/", "http://second.example/"],
                "Secure": True,
                "Official": True,
            },
            "box:5000": {"Name": "box:5000", "Mirrors": [], "Secure": False, "Official": False},
        },
    }


def test_info_tells_of_address_pools_and_the_firewall(stack: Any) -> None:
    reconfigure(stack, default_address_pools=("10.160.0.0/12/24", "fd00:7::/48/64"))
    info = stack.client.call(SystemInfo())
    assert info["DefaultAddressPools"] == [{"Base": "10.160.0.0/12", "Size": 24}, {"Base": "fd00:7::/48", "Size": 64}]
    assert info["FirewallBackend"] == {"Driver": "nftables"}
    reconfigure(stack, firewall=False, ip_masq=False)
    assert stack.client.call(SystemInfo())["FirewallBackend"] is None


def test_this_host_is_an_insecure_registry_always() -> None:
    assert registry_config(Config())["InsecureRegistryCIDRs"] == ["127.0.0.0/8"]


@pytest.mark.parametrize(("program", "name"), [("runc", "runc"), ("/opt/bin/crun", "crun")])
def test_info_names_the_runtime(stack: Any, program: str, name: str) -> None:
    reconfigure(stack, exec_driver=program)
    info = stack.client.call(SystemInfo())
    other = next(one for one in RUNTIMES if one != name)
    assert info["DefaultRuntime"] == name
    assert info["Runtimes"][name] == {"path": program}
    assert (other in info["Runtimes"]) == (shutil.which(other) is not None)


def test_the_network_shows_where_addresses_come_from(stack: Any) -> None:
    reconfigure(stack, fixed_cidr="192.0.2.128/25")
    (pool,) = stack.client.call(InspectNetwork(network="bridge")).ipam["Config"]
    assert pool == {"Subnet": "192.0.2.0/24", "IPRange": "192.0.2.128/25", "Gateway": "192.0.2.1"}


def test_info_warns_of_labels_that_nobody_sets(stack: Any) -> None:
    reconfigure(stack, selinux_enabled=True)
    assert "WARNING: selinux-enabled: containers get no SELinux labels" in stack.client.call(SystemInfo())["Warnings"]


def test_who_waits_for_a_boot_that_does_not_go_on_is_told_why(stack: Any) -> None:
    def refuse(_job: InitNetworkDriver) -> None:
        raise Conflict("bridge ip (10.9.0.1/24) does not match existing bridge configuration 172.30.0.1/16")

    def told() -> str:
        with pytest.raises(DockyardError) as caught:
            stack.client.call(AwaitService(service="engine"), timeout=1)
        return caught.value.message

    stack.world.script["init_networkdriver"] = refuse
    stack.restart_engine()
    wait_until(lambda: told().startswith("bridge ip (10.9.0.1/24) does not match existing "))
    del stack.world.script["init_networkdriver"]
    stack.client.call(AwaitService(service="engine"), timeout=20)


def test_info_warns_of_a_part_that_was_there_and_is_away(stack: Any) -> None:
    """Without it a boot goes on, so that it is missed only once it has been seen."""

    def told() -> bool:
        return "WARNING: dns does not answer" in stack.client.call(SystemInfo())["Warnings"]

    assert not told()
    with (
        subprocess.Popen(["sleep", "60"]) as process,
        zmq.Context() as context,
        dealer(context, engine_endpoint(stack.config.run)) as peer,
    ):
        registration = encode_body(Registration(names=[], pid=process.pid))
        peer.send_multipart(Frame(Kind.REGISTER, Header(name="dns"), registration).parts())
        peer.send_multipart(Frame(Kind.READY, Header(name="dns")).parts())
        wait_until(lambda: any(one.service == "dns" and one.ready for one in stack.client.call(ListServices())))
        assert not told()
        process.kill()
        process.wait()
        wait_until(told)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
