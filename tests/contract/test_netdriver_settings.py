"""What the network settings do on a host of its own (see `rig`): fixed-cidr, icc, firewall."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from services.netdriver.checking import check, check_change
from services.netdriver.netdriver import NetDriver
from shared.protocol import AllocatePort, Conflict, DockyardError, Interface, InvalidArgument
from shared.runtime.config import Config, ConfigError
from tests.unit.netdriver.rig import (
    HOST_ADDRESS,
    WORLD_ADDRESS,
    container,
    die,
    fetch,
    ip,
    make,
    pings,
    server,
    shell,
    veths,
    want,
)

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
DOCUMENT = Path(__file__).parents[2] / "docs" / "networks.md"
LOCALNET = Path("/proc/sys/net/ipv4/conf/dockyard0/route_localnet")


def go_by_the_host(one: Interface, address: str) -> None:
    """Have a container send what is for ``address`` to the bridge's own MAC address: an isolated port may do that."""
    mac = ip("-o link show dockyard0").split("link/ether ")[1].split()[0]
    shell(f"nsenter --net={one.netns} ip neigh replace {address} lladdr {mac} dev eth0 nud permanent")


def has_table() -> bool:
    return (
        subprocess.run(
            ["nft", "list", "table", "inet", "dockyard_dockyard0"], capture_output=True, check=False
        ).returncode
        == 0
    )


def test_addresses_come_from_fixed_cidr_alone(run: Path) -> None:
    driver = make(run, bip="10.7.0.1/24", fixed_cidr="10.7.0.128/30")
    found = [driver.allocate(want(number)) for number in range(1, 5)]
    assert [one.address for one in found] == [f"10.7.0.{last}" for last in range(128, 132)]
    assert {(one.gateway, one.prefix_len) for one in found} == {("10.7.0.1", 24)}
    assert pings(found[0].netns, found[3].address)
    with pytest.raises(DockyardError, match=r"no available IPv4 addresses in 10.7.0.128/30"):
        driver.allocate(want(5))
    driver.release(container(2), None)
    assert driver.allocate(want(5)).address == "10.7.0.129"


def test_without_bip_the_bridge_is_made_around_fixed_cidr(run: Path) -> None:
    driver = make(run, fixed_cidr="10.31.7.0/24")
    assert driver.init({}).subnet == "10.31.0.0/16"
    assert driver.allocate(want(1)).address == "10.31.7.0"  # an address like any other in a /16


def test_a_fixed_cidr_outside_the_bridges_network_is_a_conflict(run: Path) -> None:
    ip("link add dockyard0 type bridge")
    ip("address add 10.8.0.1/24 dev dockyard0")
    with pytest.raises(Conflict, match=r"fixed-cidr 10.9.0.0/24 is not inside the bridge's network 10.8.0.0/24"):
        make(run, fixed_cidr="10.9.0.0/24").init({})


@pytest.mark.parametrize("icc", [True, False])
def test_without_icc_there_is_no_way_by_the_host_either(run: Path, icc: bool) -> None:
    driver = make(run, icc=icc)
    one, two = driver.allocate(want(1)), driver.allocate(want(2, tcp80="8080"))
    go_by_the_host(one, two.address)
    go_by_the_host(two, one.address)
    assert pings(one.netns, two.address) is icc
    with server(two, "published"):
        assert fetch(HOST_ADDRESS, 8080) == "published"
    assert pings(one.netns, WORLD_ADDRESS)


def test_without_icc_who_is_linked_is_found_at_once(run: Path) -> None:
    """The host answers for those who are shut off; the kernel's own delay of that is up to 0.8 s."""
    make(run, icc=False).allocate(want(1))
    assert Path("/proc/sys/net/ipv4/neigh/dockyard0/proxy_delay").read_text() == "0\n"


def test_a_port_on_the_hosts_loopback_is_the_hosts_alone(run: Path) -> None:
    """A neighbour may send what is for 127.0.0.1: it must not be redirected before the kernel has looked at it."""
    one = make(run, ip="127.0.0.1").allocate(want(1, tcp80="8080"))
    world = f"nsenter --net={os.environ['WORLD']}"
    shell(f"{world} sysctl -qw net.ipv4.conf.all.route_localnet=1")
    shell(f"{world} ip addr del 127.0.0.1/8 dev lo")
    shell(f"{world} ip route add 127.0.0.0/8 via {HOST_ADDRESS} dev world")
    with server(one, "published"):
        assert fetch("127.0.0.1", 8080) == "published"
        assert fetch("127.0.0.1", 8080, os.environ["WORLD"]) == ""


def test_the_operators_rule_of_the_document_is_obeyed(run: Path) -> None:
    (rule,) = (line.strip() for line in DOCUMENT.read_text().splitlines() if "nft add rule" in line)
    again = rule.partition(" operator ")[2]  # as /etc/nftables.conf says it
    assert f"            {again}\n" in DOCUMENT.read_text()
    driver = make(run)
    one = driver.allocate(want(1, tcp80="8080", tcp81="8081"))
    shell(rule)
    with server(one, "shut"), server(one, "open", 81):
        assert fetch(HOST_ADDRESS, 8081, os.environ["WORLD"]) == "open"
        assert fetch(HOST_ADDRESS, 8080, os.environ["WORLD"]) == ""
        assert fetch(HOST_ADDRESS, 8080) == "shut"


class TestWithoutFirewall:
    @pytest.fixture
    def driver(self, run: Path) -> NetDriver:
        before = make(run)
        before.allocate(want(9, tcp80="8080"))
        assert has_table()
        assert LOCALNET.read_text() == "1\n"
        die(before)
        driver = make(run, firewall=False, ip_masq=False)
        driver.init({container(9): 1})
        return driver

    def test_there_are_no_rules_not_even_those_of_before(self, driver: NetDriver) -> None:
        one, two = driver.allocate(want(1)), driver.allocate(want(2))
        assert pings(one.netns, two.address)
        assert not pings(one.netns, WORLD_ADDRESS)  # which knows no way back: nothing is masqueraded
        assert not has_table()

    def test_the_hosts_loopback_stays_out_of_reach(self, driver: NetDriver) -> None:
        """A rule keeps containers away from it else."""
        assert LOCALNET.read_text() == "0\n"

    def test_a_port_is_refused_rather_than_not_published(self, driver: NetDriver) -> None:
        with pytest.raises(InvalidArgument, match="cannot be published without rules: firewall = false"):
            driver.allocate(want(1, tcp80="8081"))
        driver.allocate(want(1))
        with pytest.raises(InvalidArgument, match="firewall = false"):
            driver.publish(AllocatePort(container=container(1), container_port=80, host_port="8081"))
        driver.release(container(1), None)
        driver.release(container(9), None)


class TestTheBridgeOfBefore:
    """The configuration names another address, or part of a network, than the bridge that is there has."""

    @pytest.fixture
    def earlier(self, run: Path) -> NetDriver:
        driver = make(run, bip="10.7.0.1/24")
        driver.init({})
        return driver

    CHANGES = pytest.mark.parametrize("changes", [{"bip": "10.8.0.1/24"}, {"fixed_cidr": "10.31.7.0/24"}], ids=str)

    @CHANGES
    def test_without_containers_it_is_brought_to_the_new_address(
        self, earlier: NetDriver, run: Path, changes: dict[str, str]
    ) -> None:
        die(earlier)
        check_change(Config(run=run, **changes))  # type: ignore[arg-type]
        driver = make(run, **changes)
        address = driver.init({}).address
        assert address == changes.get("bip", "10.31.0.1/16")
        assert [line.split()[3] for line in ip("-o -4 address show dockyard0").splitlines()] == [address]
        one = driver.allocate(want(1))
        assert one.gateway == address.partition("/")[0]
        assert pings(one.netns, WORLD_ADDRESS)

    @CHANGES
    def test_with_containers_it_stays_and_a_check_says_so(
        self, earlier: NetDriver, run: Path, changes: dict[str, str]
    ) -> None:
        one = earlier.allocate(want(1))
        die(earlier)
        with pytest.raises(ConfigError, match=r"10\.7\.0\.\S+, and containers have addresses there"):
            check_change(Config(run=run, **changes))  # type: ignore[arg-type]
        check(Config(run=run, **changes))  # type: ignore[arg-type]
        driver = make(run, **changes)
        assert driver.init({container(1): 1}).address == "10.7.0.1/24"
        assert pings(one.netns, WORLD_ADDRESS)
        assert pings(driver.allocate(want(2)).netns, one.address)
        driver.release(container(1), None)
        driver.release(container(2), None)
        check_change(Config(run=run, **changes))  # type: ignore[arg-type]

    def test_containers_are_not_moved_to_another(self, earlier: NetDriver, run: Path) -> None:
        one = earlier.allocate(want(1))
        die(earlier)
        for bridge in ("dockyard1", "none"):
            with pytest.raises(ConfigError, match=f"bridge .{bridge}. cannot be changed: .* connected to dockyard0"):
                check_change(Config(run=run, bridge=bridge))
        settled = check(Config(run=run, bridge="dockyard1"))
        assert settled.bridge == "dockyard0"
        driver = make(run, bridge=settled.bridge)
        driver.init({container(1): 1})
        assert pings(one.netns, WORLD_ADDRESS)
        driver.release(container(1), None)
        die(driver)
        check_change(Config(run=run, bridge="dockyard1"))
        assert make(run, bridge="dockyard1").init({}).address == "172.30.0.1/16"

    def test_no_two_bridges_have_one_address(self, earlier: NetDriver, run: Path) -> None:
        with pytest.raises(ConfigError, match=r"bridge ip .10\.7\.0\.1/24. is that of dockyard0, an earlier bridge"):
            check(Config(run=run, bridge="dockyard1", bip="10.7.0.1/24"))
        earlier.allocate(want(1))
        ip("link delete " + veths().pop())  # a lease without its link does not tell which bridge it was on
        assert make(run, bridge="dockyard1").init({}).address == "172.30.0.1/16"

    def test_one_that_somebody_else_has_made_is_his(self, run: Path) -> None:
        ip("link add dockyard0 type bridge")
        ip("address add 10.8.0.1/24 dev dockyard0")
        with pytest.raises(ConfigError, match=r"does not match existing bridge configuration 10\.8\.0\.1/24"):
            check(Config(run=run, bip="10.9.0.1/24"))
        with pytest.raises(ConfigError, match="uplink exists and is not a bridge"):
            check(Config(run=run, bridge="uplink"))
