"""The contract of the netdriver for gateway modes, bridges without an address, and trusted links."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from services.netdriver.netdriver import NetDriver
from shared.protocol import (
    AllocatedPort,
    AllocatePort,
    BridgeNetwork,
    Conflict,
    Interface,
    PortBinding,
    UnmakeNetwork,
)
from tests.unit.netdriver.rig import (
    HOST6,
    HOST_ADDRESS,
    WORLD6,
    WORLD_ADDRESS,
    add_ipv6,
    container,
    die,
    fetch,
    id_of,
    ip,
    join,
    killed_at,
    make,
    network,
    own_netns,
    pings,
    server,
    shell,
    until,
    world,
)

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
PUBLISHED = {"80/tcp": [PortBinding(host_port="8080")]}
ROUTED = {"gateway_mode": "routed", "gateway_mode6": "routed"}
TABLE = "inet dockyard_dockyard0"


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    with own_netns(tmp_path):
        add_ipv6()
        world(f"ip route add 172.16.0.0/12 via {HOST_ADDRESS}")
        world(f"ip route add fd06::/16 via {HOST6}")
        yield tmp_path


def both(driver: NetDriver, name: str, number: int, **options: object) -> BridgeNetwork:
    """Make a network of both families."""
    return network(driver, name, ipv6=True, subnet6=f"fd06:{number}::/64", **options)


def fetched(address: str, port: int) -> str:
    return fetch(address, port, os.environ["WORLD"])


def tried(address: str, port: int, netns: str = "") -> str:
    """Return what a server says that is not expected to be reached; from the world unless told."""
    enter = f"nsenter --net={netns or os.environ['WORLD']} busybox timeout 1 busybox nc {address} {port}"
    return subprocess.run(enter.split(), capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False).stdout


def pinged(netns: str, address: str) -> bool:
    command = f"nsenter --net={netns} busybox ping -c1 -W1 {address}"
    return not subprocess.run(command.split(), capture_output=True, check=False).returncode


def none_works(*tries: Callable[[], str | bool]) -> bool:
    """Tell whether none of these, at a time, gets through: each waits in vain."""
    with ThreadPoolExecutor(len(tries)) as pool:  # its threads are in the caller's network namespace
        return not any(future.result() for future in [pool.submit(one) for one in tries])


def shown(interface: Interface) -> list[tuple[str, int, str]]:
    return [(port.host_ip, port.host_port, port.asked) for port in interface.ports]


def elements(name: str) -> list[object]:
    listing = json.loads(shell(f"nft -j list set {TABLE} {name}"))["nftables"]
    return list(next(one["set"] for one in listing if "set" in one).get("elem", []))


def addresses(link: str) -> set[str]:
    (found,) = json.loads(ip(f"-j address show dev {link}"))
    return {one["local"] for one in found["addr_info"]}


def test_a_routed_network_lets_through_what_is_published_to_the_container_itself(
    netdriver: NetDriver, run: Path
) -> None:
    both(netdriver, "app", 1, **ROUTED)
    network(netdriver, "other")
    one, two = join(netdriver, 1, "app", ports=PUBLISHED), join(netdriver, 2, "app", ports=PUBLISHED)
    stranger = join(netdriver, 3, "other", ports=PUBLISHED)  # the host's port is free
    assert shown(one) == shown(two) == [("0.0.0.0", 0, "8080"), ("::", 0, "8080")]
    assert shown(stranger) == [("0.0.0.0", 8080, "")]
    netdriver.release(container(3), None)
    with server(one, "web"), server(one, "shut", 81):
        for address in (one.address, one.address6):
            assert fetched(address, 80) == "web"
            assert pings(os.environ["WORLD"], address)
        outside = ((one.address, 81), (one.address6, 81), (HOST_ADDRESS, 8080), (HOST6, 8080))
        assert none_works(*(partial(tried, *where) for where in outside))
        netdriver.release(container(2), None)
        assert fetched(one.address, 80) == "web"
    assert pings(one.netns, WORLD_ADDRESS)
    assert pings(one.netns, WORLD6)
    netdriver.release(container(1), None)
    netdriver.unmake_network(UnmakeNetwork(network=id_of("app")))
    for name in ("admitted4", "admitted6", "routed4", "routed6"):
        assert elements(name) == []


def test_packets_of_a_routed_network_leave_as_they_are(netdriver: NetDriver) -> None:
    both(netdriver, "app", 1, **ROUTED)
    one = join(netdriver, 1, "app")
    world(f"ip route del 172.16.0.0/12 via {HOST_ADDRESS}")
    world(f"ip route del fd06::/16 via {HOST6}")
    assert none_works(partial(pinged, one.netns, WORLD_ADDRESS), partial(pinged, one.netns, WORLD6))


def test_a_network_that_is_routed_for_ipv6_alone(netdriver: NetDriver) -> None:
    both(netdriver, "app", 1, gateway_mode6="routed")
    one = join(netdriver, 1, "app", ports=PUBLISHED)
    assert shown(one) == [("0.0.0.0", 8080, ""), ("::", 0, "8080")]
    with server(one, "web"):
        assert fetched(HOST_ADDRESS, 8080) == "web"
        assert fetched(one.address6, 80) == "web"
        ping = partial(pinged, os.environ["WORLD"], one.address)
        assert none_works(ping, partial(tried, one.address, 80), partial(tried, HOST6, 8080))
    assert pings(os.environ["WORLD"], one.address6)


def test_other_networks_reach_a_routed_one_as_the_world_does(netdriver: NetDriver) -> None:
    network(netdriver, "app", gateway_mode="routed", icc=False)
    network(netdriver, "shut", internal=True)
    network(netdriver, "other")
    one, beside = join(netdriver, 1, "app", ports=PUBLISHED), join(netdriver, 2, "app")
    shut, other = join(netdriver, 3, "shut"), join(netdriver, 4, "other")
    shell(f"nsenter --net={shut.netns} ip route add default via 172.20.1.1")
    with server(one, "web"), server(one, "no", 81):
        assert fetch(one.address, 80, other.netns) == "web"
        inside = ((81, other), (80, shut), (80, beside))  # the last for want of icc
        assert none_works(
            partial(pinged, beside.netns, one.address),
            *(partial(tried, one.address, port, who.netns) for port, who in inside),
        )


def test_without_protection_every_port_is_reached_from_outside(netdriver: NetDriver) -> None:
    both(netdriver, "app", 1, gateway_mode="nat-unprotected", gateway_mode6="nat-unprotected")
    network(netdriver, "other")
    one, other = join(netdriver, 1, "app", ports=PUBLISHED), join(netdriver, 2, "other")
    with server(one, "web"), server(one, "more", 81):
        for address in (one.address, one.address6):
            assert fetched(address, 81) == "more"
            assert pings(os.environ["WORLD"], address)
        assert fetched(HOST_ADDRESS, 8080) == fetched(HOST6, 8080) == "web"
        assert tried(one.address, 81, other.netns) == ""
    world(f"ip route del 172.16.0.0/12 via {HOST_ADDRESS}")
    assert pings(one.netns, WORLD_ADDRESS)  # masqueraded


def test_an_isolated_bridge_has_no_address(netdriver: NetDriver, run: Path) -> None:
    isolated = {"gateway_mode": "isolated", "gateway_mode6": "isolated"}
    made = both(netdriver, "app", 1, internal=True, **isolated)
    assert (made.subnet, made.gateway, made.gateway6) == ("172.20.0.0/24", "", "")
    assert addresses(made.bridge) == set()
    one, two = join(netdriver, 1, "app"), join(netdriver, 2, "app")
    assert (one.address, one.address6) == ("172.20.0.1", "fd06:1::1")
    assert (one.gateway, one.gateway6) == ("", "")
    assert pings(one.netns, two.address)
    assert pings(one.netns, two.address6)
    assert network(netdriver, "next").subnet == "172.20.1.0/24"
    die(netdriver)
    again = make(run)
    again.init({container(1): 1, container(2): 1}, [driver.network for driver in again._networks if driver.network])
    assert addresses(made.bridge) == set()
    assert join(again, 3, "app").address == "172.20.0.3"


def test_a_bridge_of_which_one_family_is_isolated(netdriver: NetDriver) -> None:
    made = both(netdriver, "app", 1, internal=True, gateway_mode6="isolated", gateway6="fd06:1::9")
    assert addresses(made.bridge) - {made.gateway} == set()
    assert made.gateway6 == "fd06:1::9"
    one, two = join(netdriver, 1, "app"), join(netdriver, 2, "app")
    assert pings(one.netns, two.address6)
    assert pings(one.netns, made.gateway)


def test_the_gateway_may_be_somebody_else(netdriver: NetDriver) -> None:
    made = network(netdriver, "app", inhibit_ipv4=True, subnet="172.25.0.0/24", gateway="172.25.0.9")
    assert addresses(made.bridge) == set()
    one = join(netdriver, 1, "app")
    assert one.gateway == "172.25.0.9"
    router = join(netdriver, 2, "app")
    shell(f"nsenter --net={router.netns} ip address add 172.25.0.9/24 dev {router.name}")
    assert pings(one.netns, "172.25.0.9")
    assert network(netdriver, "shut", inhibit_ipv4=True, internal=True).gateway == ""


def test_from_trusted_links_published_ports_are_reached_in_place(netdriver: NetDriver, run: Path) -> None:
    network(netdriver, "app", trusted=["uplink", "none0"])
    network(netdriver, "back", trusted=["none0"])
    ports = {"80/tcp": [PortBinding(host_ip="127.0.0.1", host_port="8080"), PortBinding(host_port="8081")]}
    one = join(netdriver, 1, "app", ports=ports)
    two = join(netdriver, 2, "back", ports={"80/tcp": [PortBinding(host_port="8082")]})
    with server(one, "web"), server(one, "shut", 81), server(two, "back"):
        assert fetched(one.address, 80) == "web"
        assert fetched(HOST_ADDRESS, 8081) == "web"
        shut = ((one.address, 81), (HOST_ADDRESS, 8080), (two.address, 80))
        assert none_works(*(partial(tried, *where) for where in shut))
        assert len(elements("admitted4")) == 2
        die(netdriver)
        shell("nft flush ruleset")
        again = make(run)
        again.init({container(1): 1, container(2): 1}, [d.network for d in again._networks if d.network])
        assert fetched(one.address, 80) == "web"


def test_modes_outlive_a_kill_and_a_flush(netdriver: NetDriver, run: Path) -> None:
    made = both(netdriver, "app", 1, gateway_mode6="routed")
    one = join(netdriver, 1, "app", ports=PUBLISHED)
    before = shell(f"nft list table {TABLE}")
    die(netdriver)
    shell("nft flush ruleset")
    again = make(run)
    assert join(again, 1, "app", ports=PUBLISHED) == one
    again.init({container(1): 1}, [made])
    assert shell(f"nft list table {TABLE}") == before
    with server(one, "web"):
        assert fetched(HOST_ADDRESS, 8080) == "web"
        assert fetched(one.address6, 80) == "web"


def test_records_and_table_of_the_version_before_are_taken_over(netdriver: NetDriver, run: Path) -> None:
    made = network(netdriver, "app")
    one = join(netdriver, 1, "app", ports=PUBLISHED)
    die(netdriver)
    for path in (run / "networks" / f"{made.id}.json", *(run / "leases").iterdir()):
        assert not {"gateway_mode", "inhibit_ipv4", "trusted", "asked"} & set(re.findall(r"\w+", path.read_text()))
    shell(f"nft delete table {TABLE}")
    for command in (f"table {TABLE}", f"chain {TABLE} operator", f"chain {TABLE} forward", f"chain {TABLE} admit"):
        shell(f"nft add {command}")
    shell(f"nft add set {TABLE} open4 {{ type ifname; }}")  # of another shape
    shell(f"nft add rule {TABLE} operator counter")
    again = make(run)
    again.init({container(1): 1}, [made])
    assert again._networks.find(made.id).network == made
    assert "counter" in shell(f"nft list chain {TABLE} operator")
    with server(one, "web"):
        assert fetched(HOST_ADDRESS, 8080) == "web"


def test_ports_follow_the_way_out_from_host_ports_to_the_container_and_back(netdriver: NetDriver, run: Path) -> None:
    network(netdriver, "mapped")
    network(netdriver, "routed", gateway_mode="routed")
    local = {"80/tcp": [PortBinding(host_ip="127.0.0.1", host_port="8080")]}
    mapped = join(netdriver, 1, "mapped", ports=local)
    routed = join(netdriver, 1, "routed", ports=local, gw_priority=9)
    assert shown(routed) == [("127.0.0.1", 0, "8080")]
    with server(mapped, "web"):
        assert fetched(routed.address, 80) == "web"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", 8080), 2)
        other = join(netdriver, 2, "mapped", ports=local)  # the host's port is free again
        netdriver.release(container(2), None)
        netdriver.release(container(1), 1, id_of("routed"))
        assert fetch("127.0.0.1", 8080) == "web"
        outside = ((mapped.address, 80), (HOST_ADDRESS, 8080))
        assert none_works(*(partial(tried, *where) for where in outside))
    assert elements("admitted4") == []
    assert netdriver.interfaces(container(1))[container(1)][0].ports == other.ports


def test_a_host_port_that_is_taken_meanwhile_keeps_a_way_out_from_moving(netdriver: NetDriver) -> None:
    network(netdriver, "mapped")
    network(netdriver, "routed", gateway_mode="routed")
    routed = join(netdriver, 1, "routed", ports=PUBLISHED)
    join(netdriver, 2, "mapped", ports=PUBLISHED)
    with pytest.raises(Conflict, match="port is already allocated"):
        join(netdriver, 1, "mapped", gw_priority=9, ports=PUBLISHED)
    (there,) = netdriver.interfaces(container(1))[container(1)]
    assert there == routed
    with server(routed, "web"):
        assert fetched(routed.address, 80) == "web"


def test_a_host_port_that_is_taken_meanwhile_is_not_published_and_the_container_goes_on(netdriver: NetDriver) -> None:
    network(netdriver, "mapped")
    network(netdriver, "routed", gateway_mode="routed")
    join(netdriver, 1, "mapped", ports=PUBLISHED)
    join(netdriver, 1, "routed", ports=PUBLISHED, gw_priority=9)
    other = join(netdriver, 2, "mapped", ports=PUBLISHED)
    netdriver.release(container(1), 1, id_of("routed"))
    (left,) = netdriver.interfaces(container(1))[container(1)]
    assert left.ports == elements("admitted4") == []
    with server(other, "other"):
        assert fetched(HOST_ADDRESS, 8080) == "other"
    assert pings(left.netns, WORLD_ADDRESS)


@pytest.mark.parametrize("mode", ["nat", "routed"])
def test_a_way_out_whose_move_is_killed_anywhere_is_moved_by_the_next(run: Path, mode: str) -> None:
    first = make(run)
    first.init({})
    networks = [network(first, "new", gateway_mode=mode)]
    networks.append(network(first, "old", gateway_mode="nat" if mode == "routed" else "routed"))
    join(first, 1, "old", ports=PUBLISHED)
    die(first)
    moved, stayed = ("0.0.0.0", 8080, ""), ("0.0.0.0", 0, "8080")
    if mode == "routed":
        moved, stayed = stayed, moved
    step = 0
    while killed_at(step, run, lambda driver: join(driver, 1, "new", gw_priority=9, ports=PUBLISHED)):
        driver = make(run)
        driver.init({container(1): 1}, networks)
        join(driver, 1, "new", gw_priority=9, ports=PUBLISHED)
        for ports in ([moved], [stayed]):
            there = driver.interfaces(container(1))[container(1)]
            assert [port for one in there for port in shown(one)] == ports
            assert len(elements("admitted4")) == (ports == [("0.0.0.0", 0, "8080")])
            assert ("tcp . 8080" in shell(f"nft list map {TABLE} published4")) == (ports == [("0.0.0.0", 8080, "")])
            driver.release(container(1), 1, id_of("new"))
        die(driver)
        step += 13
    assert step > 26


def test_one_more_port_of_a_routed_network(netdriver: NetDriver) -> None:
    network(netdriver, "app", gateway_mode="routed")
    one = join(netdriver, 1, "app")
    job = AllocatePort(container=container(1), container_port=80, host_port="8000-8010")
    port = AllocatedPort(container_port=80, protocol="tcp", host_ip="0.0.0.0", host_port=0, asked="8000-8010")
    assert netdriver.publish(job) == netdriver.publish(job) == port
    with server(one, "web"):
        until(lambda: fetched(one.address, 80) == "web")
