"""docker network: create, ls, inspect, rm, prune, connect, disconnect; containers in several networks."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.integration.api import request
from tests.integration.conftest import Stack

pytestmark = pytest.mark.root
SLEEP = ("busybox", "sleep", "1000")


def inspect(stack: Stack, name: str) -> Any:
    return json.loads(stack.out("network", "inspect", name))[0]


def networks_of(stack: Stack, container: str) -> Any:
    return request(stack, "GET", f"/containers/{container}/json")[1]["NetworkSettings"]["Networks"]


def pings(stack: Stack, container: str, address: str) -> bool:
    command = ("exec", container, "ping", "-c1", "-W1", address)
    return any(not stack.docker(*command, check=False).returncode for _ in range(2))


def fails(stack: Stack, *args: str) -> str:
    result = stack.docker(*args, check=False)
    assert result.returncode != 0
    return str(result.stderr)


def test_create_list_inspect_remove(net: Stack) -> None:
    network = net.out("network", "create", "--label", "tier=back", "--subnet", "10.99.7.0/24", "back")
    seen = inspect(net, "back")
    assert (seen["Id"], seen["Driver"], seen["Scope"], seen["Internal"]) == (network, "bridge", "local", False)
    assert seen["IPAM"]["Config"] == [{"Subnet": "10.99.7.0/24", "Gateway": "10.99.7.1"}]
    assert (seen["Labels"], seen["Containers"]) == ({"tier": "back"}, {})
    assert net.out("network", "ls", "-q", "--filter", "label=tier=back", "--no-trunc") == network
    assert net.out("network", "ls", "--filter", "name=bac", "--format", "{{.Name}} {{.Driver}}") == "back bridge"
    assert net.out("network", "ls", "--filter", "type=builtin", "--format", "{{.Name}}").split() == [
        "bridge", "host", "none",
    ]  # fmt: skip
    assert "network with name back already exists" in fails(net, "network", "create", "back")
    overlap = fails(net, "network", "create", "--subnet", "10.99.0.0/16", "wide")
    assert "Pool overlaps with other one on this address space" in overlap
    assert net.out("network", "rm", network[:12]) == network[:12]
    assert net.missing("network", "back", "network back not found") in fails(net, "network", "inspect", "back")
    assert "bridge is a pre-defined network and cannot be removed" in fails(net, "network", "rm", "bridge")


def test_pools_do_not_overlap(net: Stack) -> None:
    for name in ("one", "two", "three"):
        net.docker("network", "create", name)
    subnets = {inspect(net, name)["IPAM"]["Config"][0]["Subnet"] for name in ("one", "two", "three")}
    assert len(subnets) == 3


def test_a_network_in_use_stays_and_prune_takes_the_rest(net: Stack) -> None:
    net.docker("network", "create", "used")
    net.docker("network", "create", "idle")
    net.docker("network", "create", "--label", "keep=1", "labelled")
    net.docker("run", "-d", "--name", "web", "--network", "used", *SLEEP)
    assert "network used has active endpoints" in fails(net, "network", "rm", "used")
    assert next(iter(inspect(net, "used")["Containers"].values()))["Name"] == "web"
    assert net.out("ps", "--filter", "network=used", "--format", "{{.Names}}") == "web"
    pruned = net.out("network", "prune", "-f", "--filter", "label!=keep")
    assert "idle" in pruned
    assert "used" not in pruned
    assert "labelled" not in pruned
    net.docker("rm", "-f", "web")
    net.docker("network", "rm", "used")


def test_containers_of_a_network_reach_each_other_and_no_other_network(net: Stack) -> None:
    net.docker("network", "create", "a")
    net.docker("network", "create", "b")
    for name, network in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("d1", "bridge")):
        net.docker("run", "-d", "--name", name, "--network", network, *SLEEP)
    addresses = {name: next(iter(networks_of(net, name).values()))["IPAddress"] for name in ("a1", "a2", "b1", "d1")}
    assert pings(net, "a1", addresses["a2"])
    assert not pings(net, "a1", addresses["b1"])
    assert not pings(net, "a1", addresses["d1"])
    assert not pings(net, "d1", addresses["a1"])


def test_an_internal_network_has_no_way_out(net: Stack) -> None:
    net.docker("network", "create", "--internal", "shut")
    net.docker("network", "create", "open")
    for name, network in (("s1", "shut"), ("s2", "shut"), ("o1", "open")):
        net.docker("run", "-d", "--name", name, "--network", network, *SLEEP)
    seen = networks_of(net, "s2")["shut"]
    assert pings(net, "s1", seen["IPAddress"])
    assert "default" not in net.out("exec", "s1", "ip", "route")
    outside = networks_of(net, "o1")["open"]["IPAddress"]
    net.docker("exec", "--privileged", "s1", "ip", "route", "add", "default", "via", inspect(net, "shut")["IPAM"]["Config"][0]["Gateway"])  # fmt: skip  # noqa: E501
    assert not pings(net, "s1", outside)


def test_sysctls_of_a_link(net: Stack) -> None:
    net.docker("network", "create", "app")
    option = "driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME."
    read = ("busybox", "cat", "/proc/sys/net/ipv4/conf/eth0/log_martians")
    assert net.out("run", "--rm", "--network", f"name=app,{option}log_martians=1", *read) == "1"
    assert "failed to set sysctl" in fails(net, "run", "--rm", "--network", f"name=app,{option}no_such=1", *read)


def test_connect_and_disconnect_while_it_runs(net: Stack) -> None:
    net.docker("network", "create", "extra")
    net.docker("run", "-d", "--name", "peer", "--network", "extra", *SLEEP)
    net.docker("run", "-d", "--name", "web", *SLEEP)
    peer = networks_of(net, "peer")["extra"]["IPAddress"]
    assert not pings(net, "web", peer)
    net.docker("network", "connect", "extra", "web")
    assert pings(net, "web", peer)
    assert set(networks_of(net, "web")) == {"bridge", "extra"}
    assert "already exists in network extra" in fails(net, "network", "connect", "extra", "web")
    net.docker("network", "disconnect", "bridge", "web")
    assert pings(net, "web", peer)
    assert "eth1" in net.out("exec", "web", "ip", "route", "show", "default")
    net.docker("network", "disconnect", "extra", "web")
    assert not pings(net, "web", peer)
    assert networks_of(net, "web") == {}
    assert "is not connected to network extra" in fails(net, "network", "disconnect", "extra", "web")
    net.docker("network", "connect", "extra", "web")
    assert pings(net, "web", peer)


def test_connect_before_the_start(net: Stack) -> None:
    net.docker("network", "create", "one")
    net.docker("network", "create", "two")
    net.docker("create", "--name", "web", "--network", "one", *SLEEP)
    net.docker("network", "connect", "two", "web")
    net.docker("start", "web")
    places = networks_of(net, "web")
    assert set(places) == {"one", "two"}
    assert all(place["IPAddress"] and place["NetworkID"] and place["EndpointID"] for place in places.values())
    net.docker("restart", "-t", "0", "web")
    assert {place["IPAddress"] != "" for place in networks_of(net, "web").values()} == {True}


def test_several_networks_at_once_and_who_leads_out(net: Stack) -> None:
    net.docker("network", "create", "--subnet", "10.99.1.0/24", "one")
    net.docker("network", "create", "--subnet", "10.99.2.0/24", "two")
    one = {"IPAMConfig": {"IPv4Address": "10.99.1.7"}, "Aliases": ["front"]}
    two = {"IPAMConfig": {"IPv4Address": "10.99.2.7"}, "MacAddress": "02:42:ac:11:00:99", "GwPriority": 1}
    body = {
        "Image": "busybox",
        "Cmd": ["sleep", "1000"],
        "HostConfig": {"NetworkMode": "one"},
        "NetworkingConfig": {"EndpointsConfig": {"one": one, "two": two}},
    }
    assert request(net, "POST", "/containers/create?name=web", body)[0] == 201  # docker 26 has no flag for gw-priority
    net.docker("start", "web")
    places = networks_of(net, "web")
    assert (places["one"]["IPAddress"], places["two"]["IPAddress"]) == ("10.99.1.7", "10.99.2.7")
    assert places["two"]["MacAddress"] == "02:42:ac:11:00:99"
    assert "via 10.99.2.1 dev eth1" in net.out("exec", "web", "ip", "route", "show", "default")
    assert places["one"]["Aliases"] == ["front"]


def test_addresses_that_cannot_be_had(net: Stack) -> None:
    net.docker("network", "create", "auto")
    net.docker("network", "create", "--subnet", "10.99.3.0/24", "own")
    text = fails(net, "run", "--network", "auto", "--ip", "172.20.0.9", *SLEEP)
    assert "user specified IP address is supported only when connecting to networks with user configured" in text
    assert "no configured subnet" in fails(net, "run", "--network", "own", "--ip", "10.98.0.1", *SLEEP)
    net.docker("run", "-d", "--network", "own", "--ip", "10.99.3.9", *SLEEP)
    assert "Address already in use" in fails(net, "run", "--network", "own", "--ip", "10.99.3.9", *SLEEP)


def test_ports_are_published_on_a_network_and_move_with_the_way_out(net: Stack) -> None:
    net.docker("network", "create", "front")
    net.docker("network", "create", "zback")
    net.docker(
        "run", "-d", "--name", "web", "--network", "front", "-p", "127.0.0.1:8099:80", "busybox",
        "nc", "-ll", "-p", "80", "-e", "echo", "served",
    )  # fmt: skip
    probe = ("run", "--rm", "--network", "host", "busybox", "timeout", "3", "nc", "127.0.0.1", "8099")
    assert net.out(*probe) == "served"
    assert net.out("port", "web") == "80/tcp -> 127.0.0.1:8099"
    net.docker("network", "connect", "zback", "web")
    net.docker("network", "disconnect", "front", "web")
    assert net.out(*probe) == "served"
    assert net.out("port", "web") == "80/tcp -> 127.0.0.1:8099"


def test_who_joins_a_container_has_all_its_networks(net: Stack) -> None:
    net.docker("network", "create", "one")
    net.docker("run", "-d", "--name", "web", "--network", "one", *SLEEP)
    address = networks_of(net, "web")["one"]["IPAddress"]
    assert address in net.out("run", "--rm", "--network", "container:web", "busybox", "ip", "address")


def test_events_of_networks(net: Stack) -> None:
    before = int(time.time())
    network = net.out("network", "create", "told")
    net.docker("run", "--rm", "--network", "told", "busybox", "true")
    net.docker("network", "rm", "told")
    during = ("--since", str(before), "--until", str(int(time.time()) + 1))
    found = net.out("events", *during, "--filter", f"network={network}", "--format", "{{.Action}}")
    assert found.split() == ["create", "connect", "disconnect", "destroy"]
