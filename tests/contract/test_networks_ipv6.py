"""The contract of the netdriver for IPv6: addresses, ports, rules, and the way out; and for links and macvlan."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from services.netdriver.netdriver import NetDriver
from shared.protocol import (
    BridgeNetwork,
    Conflict,
    Interface,
    InvalidArgument,
    LinkContainers,
    PortBinding,
    UnmakeNetwork,
)
from tests.unit.netdriver import rig
from tests.unit.netdriver.rig import (
    HOST6,
    WORLD6,
    add_ipv6,
    container,
    die,
    fetch,
    id_of,
    ip,
    join,
    make,
    own_netns,
    pings,
    server,
    shell,
    want,
)

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
ANY = {"80/tcp": [PortBinding(host_port="8080")]}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    with own_netns(tmp_path):
        add_ipv6()
        yield tmp_path


def network(net: NetDriver, name: str, **options: object) -> BridgeNetwork:
    return rig.network(net, name, **{"ipv6": True, **options})


def inside(interface: Interface, command: str) -> str:
    return shell(f"nsenter --net={interface.netns} {command}")


def test_a_network_of_both_families(netdriver: NetDriver, run: Path) -> None:
    made = network(netdriver, "app")
    assert made.subnet6.startswith("fd")
    assert made.subnet6.endswith("::/64")
    one, two = join(netdriver, 1, "app"), join(netdriver, 2, "app")
    assert (one.address, one.gateway6) == ("172.20.0.2", made.gateway6)
    assert one.address6 == made.gateway6.removesuffix("1") + "2"
    assert "tentative" not in inside(one, "ip -6 address show scope global")
    assert f"via {made.gateway6}" in inside(one, "ip -6 route show default")
    assert pings(one.netns, two.address6)
    assert pings(one.netns, WORLD6)  # masqueraded: the world knows no way back
    for number in (1, 2):
        netdriver.release(container(number), None)
    netdriver.unmake_network(UnmakeNetwork(network=id_of("app")))
    assert "fd" not in shell("nft list table inet dockyard_dockyard0").replace("dport", "").partition("chain")[0]


def test_networks_are_isolated_from_each_other_and_an_internal_one_from_all(netdriver: NetDriver) -> None:
    for name, options in (("one", {}), ("two", {}), ("shut", {"internal": True})):
        network(netdriver, name, **options)
    one, two = join(netdriver, 1, "one"), join(netdriver, 2, "two")
    shut, peer = join(netdriver, 3, "shut"), join(netdriver, 4, "shut")
    assert not pings(one.netns, two.address6)
    assert pings(shut.netns, peer.address6)
    assert inside(shut, "ip -6 route show default") == ""
    assert not pings(one.netns, shut.address6)


def test_a_network_of_ipv6_alone(netdriver: NetDriver) -> None:
    made = network(netdriver, "six", ipv4=False, subnet6="fd06::/80", gateway6="fd06::9", ip_range6="fd06::f:0/112")
    assert (made.subnet, made.gateway) == ("", "")
    one = join(netdriver, 1, "six", ports=ANY)
    assert (one.address, one.address6, one.prefix_len6) == ("", "fd06::f:0", 80)
    assert [(port.host_ip, port.host_port) for port in one.ports] == [("::", 8080)]
    assert inside(one, "ip -4 address show dev eth0") == ""
    with server(one, "served"):
        assert fetch(HOST6, 8080, os.environ["WORLD"]) == "served"
    with pytest.raises(InvalidArgument, match="the container has no IPv4 address"):
        join(netdriver, 2, "six", ports={"80/tcp": [PortBinding(host_ip="0.0.0.0")]})
    assert join(netdriver, 3, "six", address6="fd06::77").address6 == "fd06::77"
    with pytest.raises(InvalidArgument, match=r"no configured subnet or ip-range contain the IP address 10\.1\.1\.1"):
        join(netdriver, 4, "six", address="10.1.1.1")


def test_ports_of_both_families(netdriver: NetDriver, run: Path) -> None:
    network(netdriver, "app")
    one, two = join(netdriver, 1, "app", ports=ANY), join(netdriver, 2, "app")
    assert [(port.host_ip, port.host_port) for port in one.ports] == [("0.0.0.0", 8080), ("::", 8080)]
    with server(one, "served"):
        for address in (HOST6, "198.18.0.2"):
            assert fetch(address, 8080, os.environ["WORLD"]) == "served"  # from outside
            assert fetch(address, 8080) == "served"  # from the host
            assert fetch(address, 8080, two.netns) == "served"  # from beside it
            assert fetch(address, 8080, one.netns) == "served"  # hairpin
        assert fetch("127.0.0.1", 8080) == "served"
        with pytest.raises(ConnectionRefusedError):  # at once, so that who tries localhost goes to 127.0.0.1
            socket.create_connection(("::1", 8080), 2)
    with pytest.raises(Conflict, match="port is already allocated"):
        join(netdriver, 3, "app", ports={"80/tcp": [PortBinding(host_ip="::", host_port="8080")]})
    die(netdriver)
    again = make(run)
    again.init({container(1): 1, container(2): 1}, exact=False)
    with server(one, "again"):
        assert fetch(HOST6, 8080, os.environ["WORLD"]) == "again"


def test_ports_of_one_address_alone(netdriver: NetDriver) -> None:
    network(netdriver, "app")
    ip("address add fd98::3/64 dev uplink nodad")
    ports = {"80/tcp": [PortBinding(host_ip="fd98::3", host_port="8081"), PortBinding(host_ip=HOST6, host_port="8082")]}
    one = join(netdriver, 1, "app", ports=ports)
    with server(one, "served"):
        assert fetch("fd98::3", 8081) == "served"
        assert fetch(HOST6, 8081, os.environ["WORLD"]) == ""
        assert fetch(HOST6, 8082, os.environ["WORLD"]) == "served"


def test_nothing_but_what_is_published_comes_in(netdriver: NetDriver) -> None:
    network(netdriver, "app", ip_masq=False, ip_masq6=False)
    one = join(netdriver, 1, "app")
    made = f"{one.address6}/128"
    shell(f"nsenter --net={os.environ['WORLD']} ip route add {made} via {HOST6}")
    with server(one, "served"):
        assert fetch(one.address6, 80, os.environ["WORLD"]) == ""
        assert fetch(one.address6, 80) == "served"


def test_the_default_bridge_can_have_ipv6(run: Path) -> None:
    driver = make(run, ipv6=True, fixed_cidr_v6="fd77:1::/64")
    bridge = driver.init({})
    assert (bridge.address6, bridge.subnet6) == ("fd77:1::1/64", "fd77:1::/64")
    one = driver.allocate(msgspec.structs.replace(want(1), ports=ANY))
    assert (one.address6, one.gateway6) == ("fd77:1::2", "fd77:1::1")
    assert pings(one.netns, WORLD6)


def test_without_ipv6_there_is_none_on_a_bridge_or_in_a_container(netdriver: NetDriver) -> None:
    one = netdriver.allocate(want(1))
    assert ip("-6 address show dev dockyard0") == ""
    assert Path("/proc/sys/net/ipv6/conf/dockyard0/accept_ra").read_text() == "0\n"
    assert inside(one, "ip -6 address show dev eth0") == ""


def test_the_host_goes_on_heeding_router_advertisements(run: Path) -> None:
    Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("0")
    Path("/proc/sys/net/ipv6/conf/uplink/accept_ra").write_text("1")
    driver = make(run)
    driver.init({})
    assert Path("/proc/sys/net/ipv6/conf/all/forwarding").read_text() == "0\n"  # nobody has asked for IPv6
    network(driver, "app")
    assert Path("/proc/sys/net/ipv6/conf/all/forwarding").read_text() == "1\n"
    assert Path("/proc/sys/net/ipv6/conf/uplink/accept_ra").read_text() == "2\n"


def test_link_local_addresses(netdriver: NetDriver) -> None:
    network(netdriver, "app")
    one = join(netdriver, 1, "app", link_local=["169.254.8.8", "fe80::8"])
    shown = inside(one, "ip -o address show dev eth0")
    assert "169.254.8.8/16" in shown
    assert "fe80::8/64" in shown


def test_the_way_out_of_each_family_goes_by_itself(netdriver: NetDriver) -> None:
    """A network of IPv4 alone comes first by its name: IPv6 goes on through the other."""
    network(netdriver, "beta")
    network(netdriver, "alpha", ipv6=False)
    one = join(netdriver, 1, "beta", ports=ANY)
    join(netdriver, 1, "alpha")
    assert "dev eth1" in inside(one, "ip route show default")
    assert "dev eth0" in inside(one, "ip -6 route show default")
    beta, alpha = netdriver.interfaces()[container(1)]
    assert ([port.host_ip for port in beta.ports], [port.host_ip for port in alpha.ports]) == (["::"], ["0.0.0.0"])
    with server(one, "served"):
        for address in ("198.18.0.2", HOST6):
            assert fetch(address, 8080, os.environ["WORLD"]) == "served"
    netdriver.release(container(1), 1, id_of("alpha"))
    (beta,) = netdriver.interfaces()[container(1)]
    assert {port.host_ip for port in beta.ports} == {"::", "0.0.0.0"}
    with server(one, "again"):
        assert fetch("198.18.0.2", 8080, os.environ["WORLD"]) == "again"


# --- links where containers may not talk ------------------------------------------------------------------------------


def test_a_link_lets_its_port_through_and_nothing_else(run: Path) -> None:
    driver = make(run, icc=False)
    driver.init({})
    web, database, other = (driver.allocate(want(number)) for number in (1, 2, 3))
    link = LinkContainers(action="-I", parent_ip=web.address, child_ip=database.address, ports=["80/tcp"])
    with server(database, "data"), server(database, "more", port=81):
        assert fetch(database.address, 80, web.netns) == ""
        driver.link(link)
        driver.link(link)
        assert fetch(database.address, 80, web.netns) == "data"
        assert fetch(database.address, 81, web.netns) == ""
        assert fetch(database.address, 80, other.netns) == ""
        assert fetch(web.address, 80, database.netns) == ""
        die(driver)
        again = make(run, icc=False)
        again.init({container(number): 1 for number in (1, 2, 3)}, exact=False)
        assert fetch(database.address, 80, web.netns) == "data"
        again.link(msgspec.structs.replace(link, action="-D"))
        assert fetch(database.address, 80, web.netns) == ""
        again.link(link)
    again.release(container(2), None)
    assert "tcp . 80" not in shell("nft list set inet dockyard_dockyard0 links")
    die(again)
    late = make(run, icc=False)
    late.init({container(1): 1, container(3): 1}, exact=False)
    assert "tcp . 80" not in shell("nft list set inet dockyard_dockyard0 links")


# --- macvlan ----------------------------------------------------------------------------------------------------------


def has(kind: str) -> bool:
    """Say whether the kernel has links of a kind."""
    try:
        ip(f"link add trial link uplink type {kind}")
    except AssertionError:
        return False
    ip("link del trial")
    return True


def test_macvlan(netdriver: NetDriver) -> None:
    options = {"driver": "macvlan", "parent": "uplink", "mode": "bridge", "subnet": "198.18.0.0/24", "ipv6": False}
    options |= {"gateway": "198.18.0.1", "ip_range": "198.18.0.128/25"}
    if not has("macvlan"):
        with pytest.raises(Exception, match="this host's kernel has no macvlan"):
            network(netdriver, "lan", **options)
        return
    network(netdriver, "lan", **options)
    one, two = join(netdriver, 1, "lan", ports=ANY), join(netdriver, 2, "lan", mode="macvlan")
    del one
    netdriver.release(container(1), None)
    one = join(netdriver, 1, "lan", mode="macvlan", mac_address="02:42:c6:12:00:aa")
    assert (one.mode, one.ports, one.resolver) == ("macvlan", [], "127.0.0.11")
    assert "02:42:c6:12:00:aa" in inside(one, "ip link show dev eth0")
    assert pings(one.netns, two.address)
    assert pings(one.netns, "198.18.0.1")
    netdriver.release(container(1), 1, id_of("lan"))
    assert "eth0" not in inside(one, "ip -o link")
    netdriver.release(container(1), None)
    netdriver.release(container(2), None)
    netdriver.unmake_network(UnmakeNetwork(network=id_of("lan")))
    with pytest.raises(InvalidArgument, match="parent interface nothing: No such device"):
        network(netdriver, "lan", **{**options, "parent": "nothing"})


def test_ipvlan_is_refused_by_name_where_the_kernel_has_none(netdriver: NetDriver) -> None:
    options = {"driver": "ipvlan", "parent": "uplink", "mode": "l2", "subnet": "198.18.0.0/24", "ipv6": False}
    if has("ipvlan"):
        network(netdriver, "lan", **options)
        one = join(netdriver, 1, "lan", mode="ipvlan", address="198.18.0.77")
        assert pings(one.netns, "198.18.0.1")
        network(netdriver, "apart", **{**options, "subnet": "198.18.1.0/24", "ipvlan_flag": "private"})
        assert "private" in inside(join(netdriver, 2, "apart", mode="ipvlan"), "ip -d link show dev eth0")
        return
    with pytest.raises(Exception, match="this host's kernel has no ipvlan"):
        network(netdriver, "lan", **options)
    assert netdriver._networks.name_of(id_of("lan")) == ""
