"""docker network create -o gateway_mode…, inhibit_ipv4: what the CLI shows, and what reaches a container."""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.integration.api import request
from tests.integration.conftest import Stack, until
from tests.integration.test_network import fails, inspect, networks_of
from tests.integration.test_network_ipv6 import SERVE, SLEEP, fetch, on_host

pytestmark = pytest.mark.root
MODE = "com.docker.network.bridge.gateway_mode_ipv"


def from_inside(stack: Stack, container: str, address: str, port: int) -> str:
    command = ("exec", container, "busybox", "nc", "-w", "2", address, str(port))
    return str(stack.docker(*command, check=False).stdout).strip()


def test_ports_of_a_routed_network(net: Stack) -> None:
    net.docker(
        "network", "create", "--ipv6", "--subnet", "10.99.1.0/24", "--subnet", "fd99:1::/64",
        "-o", f"{MODE}6=routed", "mixed",
    )  # fmt: skip
    net.docker("network", "create", "--subnet", "10.99.2.0/24", "-o", f"{MODE}4=routed", "routed")
    net.docker("run", "-d", "--name", "web", "--network", "mixed", "-p", "8085:80", *SERVE)
    net.docker("run", "-d", "--name", "in-place", "--network", "routed", "-p", "8085:80", *SERVE)
    net.docker("run", "-d", "--name", "shut", "--network", "routed", *SERVE)
    ports = json.loads(net.out("inspect", "-f", "{{json .NetworkSettings.Ports}}", "web"))
    assert ports == {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8085"}, {"HostIp": "::", "HostPort": ""}]}
    assert net.out("port", "in-place", "80/tcp") == "0.0.0.0:"
    listed = request(net, "GET", '/containers/json?filters={"name":["in-place"]}')[1][0]["Ports"]
    assert listed == [{"IP": "0.0.0.0", "PrivatePort": 80, "Type": "tcp"}]
    assert "80/tcp" in net.out("ps", "--filter", "name=in-place", "--format", "{{.Ports}}")
    address, shut = (networks_of(net, name)["routed"]["IPAddress"] for name in ("in-place", "shut"))
    assert fetch(net, "127.0.0.1", 8085) == "served"
    assert from_inside(net, "web", address, 80) == "served"
    assert from_inside(net, "web", shut, 80) == ""
    (netdriver,) = net.pids("netdriver")
    on_host(net, "nft", "flush", "ruleset")
    os.kill(netdriver, signal.SIGKILL)
    until(lambda: from_inside(net, "web", address, 80) == "served")
    net.docker("restart", "-t", "0", "in-place")
    until(lambda: from_inside(net, "web", networks_of(net, "in-place")["routed"]["IPAddress"], 80) == "served")


def test_a_container_that_connects_takes_its_ports_along(net: Stack) -> None:
    net.docker("network", "create", "--subnet", "10.99.1.0/24", "-o", f"{MODE}4=routed", "routed")
    net.docker("network", "create", "--subnet", "10.99.2.0/24", "a-mapped")
    net.docker("run", "-d", "--name", "web", "--network", "routed", "-p", "127.0.0.1:8085:80", *SERVE)
    net.docker("network", "connect", "a-mapped", "web")  # its name sorts first: the way out is there
    assert net.out("port", "web") == "80/tcp -> 127.0.0.1:8085"
    assert fetch(net, "127.0.0.1", 8085) == "served"
    net.docker("network", "disconnect", "a-mapped", "web")
    assert net.out("port", "web") == "80/tcp -> 0.0.0.0:"


def test_networks_whose_bridge_has_no_address(net: Stack) -> None:
    refused = fails(net, "network", "create", "-o", f"{MODE}4=isolated", "alone")
    assert "gateway mode 'isolated' can only be used for an internal network" in refused
    assert "unknown gateway mode x" in fails(net, "network", "create", "-o", f"{MODE}6=x", "alone")
    network = net.out("network", "create", "--internal", "--subnet", "10.99.1.0/24", "-o", f"{MODE}4=isolated", "alone")
    assert inspect(net, "alone")["IPAM"]["Config"] == [{"Subnet": "10.99.1.0/24"}]
    assert inspect(net, "alone")["Options"] == {f"{MODE}4": "isolated"}
    net.docker("run", "-d", "--name", "one", "--network", "alone", *SLEEP)
    place = networks_of(net, "one")["alone"]
    assert (place["IPAddress"], place["Gateway"]) == ("10.99.1.1", "")
    assert json.loads(on_host(net, "ip", "-j", "address", "show", "dev", f"br-{network[:12]}"))[0]["addr_info"] == []
    inhibited = net.out(
        "network", "create", "--subnet", "10.99.2.0/24", "--gateway", "10.99.2.9",
        "-o", "com.docker.network.bridge.inhibit_ipv4=true", "other",
    )  # fmt: skip
    assert inspect(net, "other")["IPAM"]["Config"] == [{"Subnet": "10.99.2.0/24", "Gateway": "10.99.2.9"}]
    assert "inet " not in on_host(net, "ip", "address", "show", "dev", f"br-{inhibited[:12]}")


def test_a_network_from_the_configuration_of_another(net: Stack) -> None:
    mtu = "com.docker.network.driver.mtu"
    config = net.out(
        "network", "create", "--config-only", "--subnet", "10.99.3.0/24", "--label", "tier=back", "-o", f"{mtu}=1400",
        "conf",
    )  # fmt: skip
    seen = inspect(net, "conf")
    assert (seen["Driver"], seen["ConfigOnly"], seen["ConfigFrom"]) == ("null", True, {"Network": ""})
    assert seen["IPAM"]["Config"] == [{"Subnet": "10.99.3.0/24"}]
    assert config[:12] not in on_host(net, "ip", "-o", "link")
    try:
        net.docker("network", "create", "--config-from", "conf", "app")
        seen = inspect(net, "app")
        assert (seen["Driver"], seen["ConfigOnly"], seen["ConfigFrom"]) == ("bridge", False, {"Network": "conf"})
        assert (seen["Options"], seen["Labels"]) == ({mtu: "1400"}, {"tier": "back"})
        refused = fails(net, "network", "create", "--config-from", "conf", "--label", "a=b", "more")
        assert "user specified configurations are not supported" in refused
        net.docker("run", "-d", "--name", "web", "--network", "app", *SLEEP)
        assert networks_of(net, "web")["app"]["IPAddress"] == "10.99.3.2"
        assert "mtu 1400" in net.out("exec", "web", "ip", "link", "show", "eth0")
        only = fails(net, "network", "connect", "conf", "web")
        assert "cannot create endpoint on configuration-only network" in only
        assert 'configuration network "conf" is in use' in fails(net, "network", "rm", "conf")
    finally:  # before what it was made from
        net.docker("rm", "-f", "web", check=False)
        net.docker("network", "rm", "app", check=False)
