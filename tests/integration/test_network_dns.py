"""Names: containers of user-defined networks find each other at 127.0.0.11, whoever is killed meanwhile."""

from __future__ import annotations

import os
import signal

import pytest

from tests.integration.conftest import Stack, until
from tests.integration.test_network import SLEEP, fails, networks_of

pytestmark = pytest.mark.root


@pytest.fixture
def net(net: Stack) -> Stack:
    """The shared stack with a network ``app``."""
    net.docker("network", "create", "app")
    return net


def run(stack: Stack, name: str, *options: str, network: str = "app") -> str:
    return stack.out("run", "-d", "--name", name, "--network", network, *options, *SLEEP)


def resolve(stack: Stack, container: str, name: str) -> list[str]:
    """Return the addresses that a container finds for a name."""
    answer = stack.docker("exec", container, "nslookup", name, "127.0.0.11", check=False).stdout
    lines = answer.partition("Name:")[2].splitlines()
    return [line.split()[-1] for line in lines if line.startswith("Address")]


def address(stack: Stack, container: str, network: str = "app") -> str:
    return str(networks_of(stack, container)[network]["IPAddress"])


def test_names_aliases_ids_and_links(net: Stack) -> None:
    run(net, "db", "--network-alias", "store", "--hostname", "dbhost")
    run(net, "web", "--link", "db:backend")
    there, container = address(net, "db"), net.out("inspect", "-f", "{{.Id}}", "db")
    for name in ("db", "DB", "store", "dbhost", container[:12], "db.app"):
        assert resolve(net, "web", name) == [there], name
    assert resolve(net, "web", "backend") == [there]
    assert resolve(net, "db", "backend") == []
    assert resolve(net, "db", "nobody") == []
    assert "name = db.app" in net.out("exec", "web", "nslookup", there, "127.0.0.11")
    text = net.out("exec", "web", "cat", "/etc/resolv.conf")
    assert "nameserver 127.0.0.11" in text
    assert "ndots:0" in text
    assert net.docker("exec", "web", "ping", "-c1", "-W2", "db").returncode == 0
    assert set(networks_of(net, "db")["app"]["DNSNames"]) == {"db", "store", "dbhost", container[:12]}


def test_several_behind_one_alias_take_turns(net: Stack) -> None:
    for name in ("s1", "s2", "s3"):
        run(net, name, "--network-alias", "service")
    run(net, "web")
    answers = [resolve(net, "web", "service") for _ in range(6)]
    assert {tuple(sorted(found)) for found in answers} == {tuple(sorted(address(net, n) for n in ("s1", "s2", "s3")))}
    assert len({found[0] for found in answers}) > 1


def test_who_is_not_in_the_network_does_not_know_its_names(net: Stack) -> None:
    net.docker("network", "create", "other")
    run(net, "db")
    run(net, "stranger", network="other")
    assert resolve(net, "stranger", "db") == []
    net.docker("network", "connect", "--alias", "guest", "app", "stranger")
    assert resolve(net, "stranger", "db") == [address(net, "db")]
    assert resolve(net, "db", "guest") == [address(net, "stranger")]
    net.docker("network", "disconnect", "app", "stranger")
    assert resolve(net, "stranger", "db") == []
    assert resolve(net, "db", "guest") == []


def test_a_container_of_the_default_bridge_that_is_connected_learns_to_ask(net: Stack) -> None:
    run(net, "db")
    net.docker("run", "-d", "--name", "web", *SLEEP)
    net.docker("network", "connect", "app", "web")
    assert net.docker("exec", "web", "ping", "-c1", "-W2", "db").returncode == 0


def test_a_rename_is_known_at_once(net: Stack) -> None:
    run(net, "old")
    run(net, "web")
    net.docker("rename", "old", "new")
    assert resolve(net, "web", "new") == [address(net, "new")]
    assert resolve(net, "web", "old") == []


def test_port_53_stays_free_for_the_container(net: Stack) -> None:
    run(net, "web")
    net.docker("exec", "-d", "web", "nc", "-l", "-p", "53")
    run(net, "db")
    assert resolve(net, "web", "db") == [address(net, "db")]


def test_in_an_internal_network_nobody_outside_is_asked(net: Stack) -> None:
    net.docker("network", "create", "--internal", "shut")
    run(net, "db", network="shut")
    run(net, "web", network="shut")
    assert resolve(net, "web", "db") == [address(net, "db", "shut")]
    assert "NXDOMAIN" in fails(net, "exec", "web", "nslookup", "example.com", "127.0.0.11") + str(
        net.docker("exec", "web", "nslookup", "example.com", "127.0.0.11", check=False).stdout
    )


LOOP = """
while [ ! -e /stop ]; do
    nslookup -type=a db 127.0.0.11 >/dev/null || echo failed
    echo asked
done
"""


@pytest.mark.parametrize("service", ["netdriver", "engine", "dns", "apiserver"])
def test_no_query_fails_while_a_part_is_killed(net: Stack, service: str) -> None:
    run(net, "db")
    run(net, "web")
    net.docker("run", "-d", "--name", "asking", "--network", "app", "busybox", "sh", "-c", LOOP)
    asked = 0
    for _ in range(2):
        old = net.pids(service)
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        until(lambda old=old: len(net.pids(service)) == len(old) and not set(net.pids(service)) & set(old), 20)
        until(lambda: net.docker("ps", check=False).returncode == 0, 20)
        before, asked = asked, until(lambda before=asked: newer(net, before), 20)
        assert asked > before
    asked_to_end = net.docker("exec", "asking", "touch", "/stop", check=False)
    assert asked_to_end.returncode in (0, 137)  # the container that it ends may take it along
    assert net.out("wait", "asking") == "0"
    assert set(net.out("logs", "asking").split()) == {"asked"}
    assert resolve(net, "web", "db") == [address(net, "db")]
    run(net, "late")
    assert resolve(net, "web", "late") == [address(net, "late")]


def newer(stack: Stack, before: int) -> int:
    """Return how many queries were answered, once it is a hundred more than before."""
    count = stack.out("logs", "asking").split().count("asked")
    return count if count > before + 100 else 0


def test_names_come_back_with_the_stack(net: Stack) -> None:
    run(net, "db")
    run(net, "web", "-p", "127.0.0.1:8098:80")
    there = address(net, "db")
    net.restart()
    assert address(net, "db") == there
    assert resolve(net, "web", "db") == [there]
    assert net.out("port", "web") == "80/tcp -> 127.0.0.1:8098"
    net.docker("restart", "-t", "0", "db")
    assert resolve(net, "web", "db") == [address(net, "db")]


def test_both_dns_and_netdriver_are_killed_at_once(net: Stack) -> None:
    run(net, "db")
    run(net, "web")
    for service in ("dns", "netdriver"):
        for pid in net.pids(service):
            os.kill(pid, signal.SIGKILL)
    until(lambda: resolve(net, "web", "db") == [address(net, "db")], 20)


def test_a_service_is_recreated_as_compose_does_it(net: Stack) -> None:
    """The new one is made under another name, takes the place of the old one, and then its name."""
    labels = ("--label", "com.docker.compose.project=p", "--label", "com.docker.compose.service=db")
    run(net, "p-db-1", *labels, "--network-alias", "db", "--network-alias", "p-db-1")
    run(net, "web")
    old = net.out("inspect", "-f", "{{.Id}}", "p-db-1")
    temporary = f"{old[:12]}_p-db-1"
    net.docker(
        "create", "--name", temporary, *labels, "--network", "app", "--network-alias", "db",
        "--network-alias", "p-db-1", *SLEEP,
    )  # fmt: skip
    net.docker("stop", "-t", "0", "p-db-1")
    net.docker("rm", "p-db-1")
    net.docker("rename", temporary, "p-db-1")
    net.docker("start", "p-db-1")
    there = [address(net, "p-db-1")]
    assert resolve(net, "web", "db") == resolve(net, "web", "p-db-1") == there
    assert resolve(net, "web", old[:12]) == []
    listed = net.out("ps", "--filter", "network=app", "--filter", "label=com.docker.compose.project=p", "--format", "{{.Names}} {{.Networks}}")  # fmt: skip  # noqa: E501
    assert listed == "p-db-1 app"
    for name in ("p-db-1", "web"):
        net.docker("rm", "-f", name)
    net.docker("network", "rm", "app")
    net.docker("network", "create", "app")
