"""docker network create --ipv6, and what else networks have: links without icc, macvlan, many ports, a flush."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.api import request
from tests.integration.conftest import Stack, until
from tests.integration.test_network import fails, inspect, networks_of, pings

pytestmark = pytest.mark.root
SLEEP = ("busybox", "sleep", "1000")
SERVE = ("busybox", "nc", "-ll", "-p", "80", "-e", "echo", "served")


def on_host(stack: Stack, *command: str) -> str:
    """Run a command in the stack's network namespace."""
    (pid,) = stack.pids("netdriver")
    done = subprocess.run(
        ["nsenter", f"--net=/proc/{pid}/ns/net", *command], capture_output=True, text=True, check=True
    )
    return done.stdout


def fetch(stack: Stack, address: str, port: int) -> str:
    command = ("run", "--rm", "--network", "host", "busybox", "nc", "-w", "5", address, str(port))
    return str(stack.docker(*command, check=False).stdout).strip()


def test_a_network_with_ipv6(net: Stack) -> None:
    net.docker(
        "network", "create", "--ipv6", "--subnet", "10.99.1.0/24", "--subnet", "fd99:1::/64", "--gateway", "fd99:1::99",
        "--ip-range", "fd99:1::8000/120", "dual",
    )  # fmt: skip
    seen = inspect(net, "dual")
    assert seen["EnableIPv6"] is True
    assert seen["IPAM"]["Config"] == [
        {"Subnet": "10.99.1.0/24", "Gateway": "10.99.1.1"},
        {"Subnet": "fd99:1::/64", "IPRange": "fd99:1::8000/120", "Gateway": "fd99:1::99"},
    ]
    net.docker("run", "-d", "--name", "one", "--network", "dual", "--ip6", "fd99:1::7", *SLEEP)
    net.docker("run", "-d", "--name", "two", "--network", "dual", "-p", "8085:80", *SERVE)
    place = networks_of(net, "two")["dual"]
    assert (place["GlobalIPv6Address"], place["GlobalIPv6PrefixLen"]) == ("fd99:1::8000", 64)
    assert place["IPv6Gateway"] == "fd99:1::99"
    assert (
        inspect(net, "dual")["Containers"][net.out("inspect", "-f", "{{.Id}}", "one")]["IPv6Address"] == "fd99:1::7/64"
    )
    assert pings(net, "one", "fd99:1::8000")
    assert "fd99:1::8000" in net.out("exec", "one", "nslookup", "two")
    assert "two.dual" in net.out("exec", "one", "nslookup", "fd99:1::8000")
    assert "fd99:1::7\t" in net.out("exec", "one", "cat", "/etc/hosts")
    everywhere = ":::8085" if net.client < 23 else "[::]:8085"
    assert net.out("port", "two").splitlines() == ["80/tcp -> 0.0.0.0:8085", f"80/tcp -> {everywhere}"]
    assert [fetch(net, address, 8085) for address in ("127.0.0.1", "fd99:1::99")] == ["served", "served"]


def test_a_network_without_ipv4(net: Stack) -> None:
    six = {"Name": "six", "EnableIPv4": False, "EnableIPv6": True}  # no flag of docker's before 28
    assert request(net, "POST", "/networks/create", six)[0] == 201
    assert inspect(net, "six")["EnableIPv4"] is False
    net.docker("run", "-d", "--name", "one", "--network", "six", *SLEEP)
    net.docker("run", "-d", "--name", "two", "--network", "six", *SLEEP)
    assert networks_of(net, "one")["six"]["IPAddress"] == ""
    assert not net.docker("exec", "one", "ping", "-6", "-c1", "-W2", "two", check=False).returncode
    net.docker("network", "disconnect", "six", "one")
    net.docker(
        "network",
        "connect",
        "--ip6",
        networks_of(net, "two")["six"]["IPv6Gateway"][:-1] + "77",
        "six",
        "two",
        check=False,
    )
    status, answer = request(net, "POST", "/networks/create", {"Name": "none4", "EnableIPv4": False})
    assert (status, "IPv4 or IPv6 must be enabled" in answer["message"]) == (400, True)


def test_macvlan_or_why_not(net: Stack) -> None:
    assert "needs an interface of the host's" in fails(net, "network", "create", "-d", "macvlan", "lan")
    on_host(net, "ip", "link", "add", "lan0", "up", "type", "veth", "peer", "name", "lan1")
    on_host(net, "ip", "link", "set", "lan1", "up")
    options = ("--subnet", "10.99.5.0/24", "-o", "parent=lan0", "lan")
    made = net.docker("network", "create", "-d", "macvlan", *options, check=False)
    if made.returncode:
        assert "this host's kernel has no macvlan" in made.stderr
        return
    assert inspect(net, "lan")["Driver"] == "macvlan"
    for name in ("one", "two"):
        net.docker("run", "-d", "--name", name, "--network", "lan", *SLEEP)
    assert pings(net, "one", networks_of(net, "two")["lan"]["IPAddress"])
    assert "two" in net.out("exec", "one", "nslookup", "two")


def test_links_without_icc(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(DOCKYARD_ICC="false")
    stack.start()
    stack.dockyard("busybox")
    stack.docker("run", "-d", "--name", "db", "--expose", "80", *SERVE)
    probe = ("busybox", "nc", "-w", "2", "db", "80")
    address = networks_of(stack, "db")["bridge"]["IPAddress"]
    assert stack.out("run", "--rm", "--link", "db", *probe) == "served"
    alone = stack.docker("run", "--rm", "--add-host", f"db:{address}", *probe, check=False)
    assert alone.stdout == ""
    stack.docker("run", "-d", "--name", "web", "--link", "db", *SLEEP)
    stack.docker("restart", "-t", "0", "db")
    assert stack.out("exec", "web", *probe[1:]) == "served"


def test_ten_thousand_ports_in_two_seconds_and_no_process_for_any(net: Stack) -> None:
    before = len(net.pids("netdriver"))
    net.docker("create", "--name", "many", "-p", "20000-29999:20000-29999", *SLEEP)
    begun = time.monotonic()
    net.docker("start", "many")
    took = time.monotonic() - begun
    ports: Any = json.loads(net.out("inspect", "-f", "{{json .NetworkSettings.Ports}}", "many"))
    assert len(ports) == 10000
    assert ports["29999/tcp"] == [{"HostIp": "0.0.0.0", "HostPort": "29999"}]
    assert len(net.pids("netdriver")) == before
    assert "port is already allocated" in fails(net, "run", "--rm", "-p", "25000:80", *SLEEP)
    net.docker("run", "-d", "--name", "web", "-p", "8086:80", *SERVE)  # the library's socket is below 1,024 still
    assert fetch(net, "127.0.0.1", 8086) == "served"
    print(f"10,000 ports published in {took:.2f} s")
    assert took < 10  # 2 s on a machine that does nothing else; see docs/networks.md


def test_a_foreign_flush_is_made_good_for_all_networks(net: Stack) -> None:
    net.docker("network", "create", "--ipv6", "a")
    net.docker("network", "create", "--internal", "b")
    net.docker("run", "-d", "--network", "a", "-p", "8087:80", *SERVE)
    on_host(net, "nft", "add", "rule", "inet", "dockyard_dytest0", "operator", "tcp", "dport", "9", "drop")
    before = on_host(net, "nft", "-s", "list", "table", "inet", "dockyard_dytest0")
    begun = time.monotonic()
    on_host(net, "nft", "flush", "ruleset")
    expected = before.replace("\t\ttcp dport 9 drop\n", "")
    listing = ("nft", "-s", "list", "table", "inet", "dockyard_dytest0")
    until(lambda: "dockyard_dytest0" in on_host(net, "nft", "list", "tables") and on_host(net, *listing) == expected)
    print(f"back after {time.monotonic() - begun:.2f} s")
    assert fetch(net, "127.0.0.1", 8087) == "served"


def test_info_warns_when_the_hosts_firewall_denies_what_is_published(net: Stack) -> None:
    net.docker("run", "-d", "-p", "8088:80", *SERVE)
    assert "8088" not in net.out("info", "-f", "{{json .Warnings}}")
    on_host(net, "nft", "add table ip filter")
    on_host(net, "nft", "add chain ip filter INPUT { type filter hook input priority 0; policy drop; }")
    net.docker("run", "-d", "-p", "8089:80", *SERVE)
    said = "ports 8088/tcp, 8089/tcp are published although chain INPUT of table ip filter denies it"
    until(lambda: said in net.out("info", "-f", "{{json .Warnings}}"))
    on_host(net, "nft", "delete table ip filter")


def test_the_operators_rules_stay_when_the_netdriver_is_killed(net: Stack) -> None:
    on_host(net, "nft", "add", "rule", "inet", "dockyard_dytest0", "operator", "tcp", "dport", "9", "drop")
    (pid,) = net.pids("netdriver")
    subprocess.run(["kill", "-9", str(pid)], check=True)
    until(lambda: net.pids("netdriver") not in ([], [pid]))
    net.docker("network", "create", "after")
    assert "tcp dport 9 drop" in on_host(net, "nft", "list", "chain", "inet", "dockyard_dytest0", "operator")
