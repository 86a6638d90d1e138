"""The contract of the netdriver for user-defined networks: bridges, rules, addresses, and the way out."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from services.netdriver.netdriver import NetDriver
from services.netdriver.veth import veth_name
from shared.protocol import (
    AllocateInterface,
    BridgeNetwork,
    Conflict,
    DockyardError,
    Interface,
    InvalidArgument,
    MakeNetwork,
    NotFound,
    PermissionDenied,
    UnmakeNetwork,
)
from tests.unit.netdriver.rig import (
    HOST_ADDRESS,
    WORLD_ADDRESS,
    container,
    die,
    fetch,
    id_of,
    ip,
    join,
    make,
    network,
    pings,
    server,
    shell,
    until,
    want,
)

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


def bridges() -> set[str]:
    return {line.split(": ")[1] for line in ip("-o link show type bridge").splitlines()}


def tables() -> set[str]:
    return {line.split()[2] for line in shell("nft list tables").splitlines()}


def elements(name: str) -> set[str]:
    listing = json.loads(shell(f"nft -j list set inet dockyard_dockyard0 {name}"))["nftables"]
    return set(next(one["set"] for one in listing if "set" in one).get("elem", []))


def default_route(interface: Interface) -> str:
    return shell(f"nsenter --net={interface.netns} ip route show default").strip()


def links(interface: Interface) -> set[str]:
    lines = shell(f"nsenter --net={interface.netns} ip -o link show type veth").splitlines()
    return {line.split(": ")[1].split("@")[0] for line in lines}


def test_a_network_is_made_once_and_leaves_nothing(netdriver: NetDriver, run: Path) -> None:
    made = network(netdriver, "app")
    assert made.bridge == f"br-{made.id[:12]}"
    assert made.subnet == "172.20.0.0/24"
    assert made.gateway == "172.20.0.1"
    assert network(netdriver, "app") == made
    assert made.bridge in bridges()
    assert made.bridge in elements("bridges")
    assert network(netdriver, "other").subnet == "172.20.1.0/24"
    for name in ("app", "other", "other"):
        netdriver.unmake_network(UnmakeNetwork(network=id_of(name)))
    assert bridges() == {"dockyard0"}
    assert elements("bridges") == {"dockyard0"}
    assert tables() == {"dockyard_dockyard0"}
    assert not list((run / "networks").iterdir())


def test_pools_keep_clear_of_the_hosts_routes_and_end(run: Path) -> None:
    ip("route add 172.20.0.128/25 dev uplink")
    driver = make(run, default_address_pools=("172.20.0.0/23/24",))
    driver.init({})
    assert network(driver, "app").subnet == "172.20.1.0/24"
    with pytest.raises(InvalidArgument, match="all predefined address pools have been fully subnetted"):
        network(driver, "more")
    assert network(driver, "own", subnet="172.20.0.0/25").gateway == "172.20.0.1"


@pytest.mark.parametrize("subnet", ["10.9.0.0/16", "10.9.3.0/25", "172.30.4.0/24"])
def test_subnets_that_overlap_a_network_are_refused(netdriver: NetDriver, subnet: str) -> None:
    network(netdriver, "app", subnet="10.9.3.0/24")
    with pytest.raises(PermissionDenied, match="Pool overlaps with other one on this address space"):
        network(netdriver, "more", subnet=subnet)


def test_a_link_that_is_somebody_elses_is_left_alone(netdriver: NetDriver, run: Path) -> None:
    ip("link add theirs type bridge")
    with pytest.raises(Conflict):
        network(netdriver, "app", bridge="theirs")
    assert "theirs" in bridges()
    assert not list((run / "networks").iterdir())


def test_networks_are_isolated_from_each_other_and_reach_the_world(netdriver: NetDriver) -> None:
    network(netdriver, "a")
    network(netdriver, "b")
    one, two, three = join(netdriver, 1, "a"), join(netdriver, 2, "a"), join(netdriver, 3, "b")
    four = netdriver.allocate(want(4))
    assert pings(one.netns, two.address)
    assert pings(one.netns, WORLD_ADDRESS)
    assert pings(one.netns, one.gateway)
    for stranger, address in ((one, three.address), (one, four.address), (four, one.address), (three, one.address)):
        assert not pings(stranger.netns, address)


def test_packets_of_a_network_leave_with_the_address_that_it_is_given(netdriver: NetDriver) -> None:
    ip("address add 198.18.0.9/24 dev uplink")
    network(netdriver, "app", leaves_as="198.18.0.9")
    network(netdriver, "back")
    inside = [join(netdriver, 1, "app").netns, join(netdriver, 2, "back").netns]
    assert [seen_from(netns) for netns in inside] == ["198.18.0.9", HOST_ADDRESS]
    netdriver.release(container(1), None)
    netdriver.unmake_network(UnmakeNetwork(network=id_of("app")))
    assert "198.18.0.9" not in shell("nft list table inet dockyard_dockyard0")


def seen_from(netns: str) -> str:
    """Return the address that the world sees when somebody connects from a namespace."""
    listen = """
import socket
with socket.create_server(("0.0.0.0", 7777)) as server:
    server.settimeout(10)
    print(flush=True)
    print(server.accept()[1][0])
"""
    command = ["nsenter", f"--net={os.environ['WORLD']}", sys.executable, "-c", listen]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as world:
        assert world.stdout is not None
        world.stdout.readline()
        fetch(WORLD_ADDRESS, 7777, netns)
        return world.communicate(timeout=10)[0].strip()


def test_names_of_links_inside_are_the_networks_or_their_own(netdriver: NetDriver, run: Path) -> None:
    network(netdriver, "app", iface_prefix="lan", ipv6=True)
    network(netdriver, "back")
    given = [join(netdriver, 1, "app"), join(netdriver, 1, "back"), join(netdriver, 2, "back", ifname="front")]
    assert [interface.name for interface in given] == ["lan0", "eth0", "front"]
    before = sorted(path.name for path in run.rglob("*"))
    with pytest.raises(InvalidArgument, match="the container has an interface front already"):
        join(netdriver, 2, "app", ifname="front")
    assert sorted(path.name for path in run.rglob("*")) == before
    for interface, gateway in zip(given, ("172.20.0.1", "172.20.1.1", "172.20.1.1"), strict=True):
        shown = json.loads(shell(f"nsenter --net={interface.netns} ip -j address show {interface.name}"))
        addresses = {one["local"] for one in shown[0]["addr_info"]}
        assert {interface.address, interface.address6} - {""} <= addresses
        assert pings(interface.netns, gateway)
    die(netdriver)
    again = make(run)
    again.init({container(1): 1, container(2): 1}, [one.network for one in again._networks if one.network])
    assert sorted(one.name for one in again.interfaces()[container(1)]) == ["eth0", "lan0"]
    assert join(again, 2, "back", ifname="front") == given[2]


def test_sysctls_of_a_link_are_its_own(netdriver: NetDriver, run: Path) -> None:
    network(netdriver, "app", ipv6=True)
    network(netdriver, "back")
    wanted = {"net.ipv4.conf.IFNAME.log_martians": "1", "net.ipv6.conf.IFNAME.hop_limit": "77"}
    join(netdriver, 1, "back")
    given = join(netdriver, 1, "app", ifname="front", sysctls=wanted)
    files = ("ipv4/conf/front/log_martians", "ipv6/conf/front/hop_limit", "ipv4/conf/eth0/log_martians")
    read = f"nsenter --net={given.netns} cat {' '.join(f'/proc/sys/net/{file}' for file in files)}"
    assert shell(read).split() == ["1", "77", "0"]
    shell(f"nsenter --net={given.netns} sysctl -w net.ipv6.conf.front.hop_limit=64")
    die(netdriver)  # between the link and its sysctls
    again = make(run)
    assert join(again, 1, "app", ifname="front", sysctls=wanted) == given
    assert shell(read).split() == ["1", "77", "0"]
    with pytest.raises(InvalidArgument, match=r"failed to set sysctl net.ipv4.conf.eth0.no_such=1: No such file"):
        join(again, 2, "back", sysctls={"net.ipv4.conf.IFNAME.no_such": "1"})
    assert container(2) not in again.interfaces()


def test_an_internal_network_is_shut(netdriver: NetDriver) -> None:
    network(netdriver, "shut", internal=True)
    network(netdriver, "open")
    one, two = join(netdriver, 1, "shut"), join(netdriver, 2, "shut")
    three = join(netdriver, 3, "open", ports=want(3, tcp80="8080").ports)
    assert (one.gateway, default_route(one)) == ("", "")
    assert pings(one.netns, two.address)
    shell(f"nsenter --net={one.netns} ip route add default via 172.20.0.1")
    assert not pings(one.netns, WORLD_ADDRESS)
    assert not pings(one.netns, three.address)
    with server(three, "published"):
        assert fetch("127.0.0.1", 8080) == "published"
        assert fetch("172.20.0.1", 8080, one.netns) == ""
    with server(one, "secret"):
        assert fetch(one.address, 80, three.netns) == ""


def test_without_icc_containers_reach_the_world_alone(netdriver: NetDriver) -> None:
    network(netdriver, "apart", icc=False)
    one, two = join(netdriver, 1, "apart"), join(netdriver, 2, "apart")
    assert pings(one.netns, WORLD_ADDRESS)
    assert not pings(one.netns, two.address)


def test_two_networks_do_not_have_one_bridge(netdriver: NetDriver) -> None:
    network(netdriver, "own", bridge="mine")
    with pytest.raises(PermissionDenied, match=r"conflicts with network \w+ \(mine\): networks have same bridge name"):
        network(netdriver, "other", bridge="mine")
    with pytest.raises(Conflict, match="a link named uplink exists already"):
        network(netdriver, "third", bridge="uplink")


def test_auxiliary_addresses_do_not_move_where_the_search_begins(netdriver: NetDriver) -> None:
    network(netdriver, "own", subnet="10.9.3.0/24", auxiliary={"router": "10.9.3.100"})
    assert join(netdriver, 1, "own").address == "10.9.3.2"


def test_mtu_gateway_range_and_auxiliary_addresses(netdriver: NetDriver) -> None:
    made = network(
        netdriver, "own", subnet="10.9.3.0/24", gateway="10.9.3.9", ip_range="10.9.3.128/30",
        auxiliary={"router": "10.9.3.129"}, mtu=1280, bridge="mine",
    )  # fmt: skip
    assert made.bridge == "mine"
    found = [join(netdriver, number, "own") for number in (1, 2, 3)]
    assert sorted(one.address for one in found) == ["10.9.3.128", "10.9.3.130", "10.9.3.131"]
    assert {one.gateway for one in found} == {"10.9.3.9"}
    assert "mtu 1280" in shell(f"nsenter --net={found[0].netns} ip link show eth0")
    with pytest.raises(DockyardError, match=r"no available IPv4 addresses in 10.9.3.128/30"):
        join(netdriver, 4, "own")
    assert join(netdriver, 5, "own", address="10.9.3.77").address == "10.9.3.77"
    with pytest.raises(PermissionDenied, match="Address already in use"):
        join(netdriver, 6, "own", address="10.9.3.129")
    with pytest.raises(InvalidArgument):
        join(netdriver, 6, "own", address="10.9.4.1")


def test_several_networks_and_who_leads_out(netdriver: NetDriver, run: Path) -> None:
    for name in ("back", "front", "shut"):
        network(netdriver, name, internal=name == "shut")
    ports = want(1, tcp80="8080").ports
    shut = join(netdriver, 1, "shut", ports=ports)
    assert (shut.ports, default_route(shut)) == ([], "")
    front = join(netdriver, 1, "front", ports=ports)
    assert (front.name, default_route(front)) == ("eth1", f"default via {front.gateway} dev eth1")
    back = join(netdriver, 1, "back", ports=ports)  # its name sorts first
    assert default_route(back) == f"default via {back.gateway} dev eth2"
    with server(back, "web"):
        assert fetch("127.0.0.1", 8080) == "web"
    default = netdriver.allocate(msgspec.structs.replace(want(1), gw_priority=5, ports=ports))
    assert default_route(default) == f"default via {default.gateway} dev eth3"
    there = netdriver.interfaces(container(1))[container(1)]
    assert [(one.name, len(one.ports)) for one in there] == [("eth0", 0), ("eth1", 0), ("eth2", 0), ("eth3", 1)]
    netdriver.release(container(1), 1, "")
    assert default_route(back) == f"default via {back.gateway} dev eth2"
    netdriver.release(container(1), 1, id_of("back"))
    assert links(front) == {"eth0", "eth1"}
    with server(front, "web"):
        assert fetch("127.0.0.1", 8080) == "web"
    assert join(netdriver, 1, "back").name == "eth2"
    netdriver.release(container(1), 1)
    assert netdriver.interfaces() == {}
    assert not list((run / "leases").iterdir())
    assert join(netdriver, 2, "front", ports=ports).ports[0].host_port == 8080


def test_who_leaves_the_last_network_keeps_his_namespace(netdriver: NetDriver) -> None:
    network(netdriver, "app")
    one = netdriver.allocate(want(1))
    inode = Path(one.netns).stat().st_ino
    netdriver.release(container(1), 1, "")
    assert links(one) == set()
    assert [interface.mode for interface in netdriver.interfaces()[container(1)]] == ["none"]
    again = join(netdriver, 1, "app")
    assert (again.name, Path(again.netns).stat().st_ino) == ("eth0", inode)
    assert [interface.mode for interface in netdriver.interfaces()[container(1)]] == ["bridge"]
    assert pings(again.netns, WORLD_ADDRESS)


def test_a_network_with_containers_stays(netdriver: NetDriver) -> None:
    network(netdriver, "app")
    join(netdriver, 1, "app")
    with pytest.raises(PermissionDenied, match="network app has active endpoints"):
        netdriver.unmake_network(UnmakeNetwork(network=id_of("app")))
    netdriver.release(container(1), None)
    netdriver.unmake_network(UnmakeNetwork(network=id_of("app")))
    with pytest.raises(NotFound):
        join(netdriver, 1, "app")


def test_a_restarted_driver_goes_on_with_networks_and_leases(netdriver: NetDriver, run: Path) -> None:
    made = network(netdriver, "app")
    stray = network(netdriver, "stray")
    one = join(netdriver, 1, "app", ports=want(1, tcp80="8080").ports)
    join(netdriver, 1, "stray")
    die(netdriver)
    again = make(run)
    assert join(again, 1, "app") == one
    again.init({container(1): 1}, [made], {container(1): [made.id]})
    assert links(one) == {"eth0"}
    assert stray.bridge not in bridges()
    assert stray.bridge not in elements("bridges")
    with server(one, "web"):
        assert fetch("127.0.0.1", 8080) == "web"
    assert join(again, 2, "app").address != one.address
    again.init({}, [made])
    assert again.interfaces() == {}
    until(lambda: "dyv" not in ip("-o link"))
    assert made.bridge in bridges()


def test_what_the_kernel_lacks_is_made_again(netdriver: NetDriver, run: Path) -> None:
    """As after a reboot: the records say what there was."""
    made = network(netdriver, "app", mtu=1300)
    die(netdriver)
    ip(f"link del {made.bridge}")
    shell("nft flush ruleset")
    (run / "networks" / f"{made.id}.json").unlink()
    again = make(run)
    again.init({}, [made])
    one, two = join(again, 1, "app"), join(again, 2, "app")
    assert pings(one.netns, two.address)
    ip(f"link del {made.bridge}")
    again.init({container(1): 1, container(2): 1}, [made])
    until(lambda: pings(one.netns, two.address))


@pytest.mark.parametrize("name", ["", "../x", "A" * 64])
def test_only_ids_are_taken_for_networks_ids(netdriver: NetDriver, name: str) -> None:
    with pytest.raises(InvalidArgument):
        netdriver.make_network(MakeNetwork(network=BridgeNetwork(id=name, name="x")))
    with pytest.raises((InvalidArgument, NotFound)):
        netdriver.allocate(AllocateInterface(container=container(1), generation=1, mode="bridge", network=name or "x"))


def test_a_damaged_file_is_as_if_it_were_not(netdriver: NetDriver, run: Path) -> None:
    made = network(netdriver, "app")
    die(netdriver)
    (run / "networks" / f"{made.id}.json").write_bytes(b"{")
    again = make(run)
    again.init({}, [made])
    assert pings(join(again, 1, "app").netns, WORLD_ADDRESS)


def test_port_53_is_led_to_the_servers_sockets(netdriver: NetDriver) -> None:
    network(netdriver, "app")
    one = join(netdriver, 1, "app", names=["web"])
    assert one.resolver == "127.0.0.11"
    pair = netdriver.resolvers._held[container(1)]
    listing = json.loads(shell(f"nsenter --net={one.netns} nft -j list table ip dockyard_dns"))
    ports = {
        entry["dnat"]["port"]
        for rule in listing["nftables"]
        if "rule" in rule
        for entry in rule["rule"]["expr"]
        if "dnat" in entry
    }
    assert ports == {pair.udp.getsockname()[1], pair.tcp.getsockname()[1]}
    netdriver.release(container(1), None)
    assert container(1) not in netdriver.resolvers._held
    assert pair.udp.fileno() == -1


def test_many_descriptors_do_not_stand_in_the_way_of_rules(netdriver: NetDriver) -> None:
    """libnftables wants a low descriptor for each namespace's context; sockets are kept at high ones."""
    network(netdriver, "app")
    join(netdriver, 1, "app", ports=want(1, tcp80="8080").ports)
    pair = netdriver.resolvers._held[container(1)]
    held: list[socket.socket] = [pair.udp, pair.tcp, *netdriver._drivers["bridge"]._ports._held.values()]
    assert all(one.fileno() >= 2048 for one in held)
    assert veth_name(netdriver._leases.of(container(1))[0]) in ip("-o link")
