"""The netdriver never leaks: whatever is killed, wherever, the kernel has what the records say; at the end nothing.

Short here; `make outliving` has it long: LEAK_ROUNDS networks made and removed, each with containers that come and go.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.netdriver.netdriver import NetDriver
from services.netdriver.netns import exists
from services.netdriver.veth import veth_name
from shared.protocol import (
    AllocateInterface,
    BridgeNetwork,
    DockyardError,
    MakeNetwork,
    PortBinding,
    UnmakeNetwork,
)
from tests.unit.netdriver.rig import container, die, ip, killed_at, make, shell, until, veths, want

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
ROUNDS = int(os.environ.get("LEAK_ROUNDS", "8"))
STRIDE = int(os.environ.get("LEAK_STRIDE", "97"))  # 1: killed before each call to C
SEED = int(os.environ.get("SEED") or random.randrange(1 << 32))
TABLE = "dockyard_dockyard0"
STEPS_A_KILL = 60  # calls to C, of which one is the last


def id_of(name: str) -> str:
    return name.encode().hex().ljust(64, "0")


def network(name: str, **options: Any) -> MakeNetwork:
    return MakeNetwork(network=BridgeNetwork(id=id_of(name), name=name, **options))


def elements(name: str) -> set[str]:
    """Return a set's or map's elements, as text."""
    for one in json.loads(shell(f"nft -j list table inet {TABLE}"))["nftables"]:
        found = one.get("set") or one.get("map") or {}
        if found.get("name") == name:
            return {json.dumps(element) for element in found.get("elem", [])}
    raise AssertionError(f"no set {name}")


def in_the_kernel() -> dict[str, set[str]]:
    links = json.loads(ip("-j -d address"))
    bridges = [link for link in links if link.get("linkinfo", {}).get("info_kind") == "bridge"]
    return {
        "bridges": {link["ifname"] for link in bridges},
        "addresses": {
            f"{link['ifname']} {one['local']}/{one['prefixlen']}"
            for link in bridges
            for one in link["addr_info"]
            if one["scope"] == "global"
        },
        "veths": veths(),
        "rules": {json.loads(one) for one in elements("bridges")},
        "published": elements("published4") | elements("published6"),
    }


def on_record(driver: NetDriver) -> dict[str, set[str]]:
    networks = [one.network for one in driver._networks if one.network]
    leases = [lease for lease in driver._leases.all() if lease.interface.mode == "bridge"]
    addresses = {"dockyard0 172.30.0.1/16"}
    for one in networks:
        for gateway, subnet in ((one.gateway, one.subnet), (one.gateway6, one.subnet6)):
            if gateway:
                addresses.add(f"{one.bridge} {gateway}/{subnet.partition('/')[2]}")
    published = set()
    for lease in leases:
        for port in lease.interface.ports:
            address = lease.interface.address6 if ":" in port.host_ip else lease.interface.address
            published.add(json.dumps([{"concat": [port.protocol, port.host_port]}, {"concat": [address, 80]}]))
    bridges = {"dockyard0", *(one.bridge for one in networks)}
    veth = {veth_name(lease) for lease in leases}
    return {"bridges": bridges, "addresses": addresses, "veths": veth, "rules": bridges, "published": published}


def check(driver: NetDriver, run: Path) -> None:
    """The kernel has what the records say, and nothing else; so have the directories, and the sockets of ports."""
    assert in_the_kernel() == on_record(driver)
    leases = driver._leases.all()
    assert {path.name for path in (run / "netns").iterdir()} == {lease.container for lease in leases}
    assert all(exists(run / "netns" / lease.container) for lease in leases)
    assert {path.name for path in (run / "leases").iterdir()} == {lease.file for lease in leases}
    held = {port for lease in leases for port in lease.interface.ports}
    bridge: Any = driver._drivers["bridge"]
    assert set(bridge._ports._held) == held


def join(number: int, name: str, port: int, generation: int = 1, **options: Any) -> AllocateInterface:
    ports = {"80/tcp": [PortBinding(host_port=str(port))]}
    asked = {"network": id_of(name) if name else "", "ports": ports, **options}
    return msgspec.structs.replace(want(number, generation), **asked)


def starts(driver: NetDriver) -> None:
    """The whole of a start in two networks."""
    driver.make_network(network("app", ipv6=True))
    driver.make_network(network("back", internal=True))
    driver.allocate(join(1, "app", 8080))
    driver.allocate(join(1, "back", 8080))


def test_any_prefix_of_a_start_in_two_networks_then_the_same_start(run: Path) -> None:
    """Killed before each STRIDEth call to C, the first by chance: the same start works."""
    make(run).init({})
    print(f"seed {SEED}")
    for step in range(random.Random(SEED).randrange(STRIDE), 100_000, STRIDE):
        killed = killed_at(step, run, starts)
        driver = make(run)
        starts(driver)
        check(driver, run)
        driver.init({container(1): 1}, [one.network for one in driver._networks if one.network])
        check(driver, run)
        driver.init({})
        check(driver, run)
        assert driver.interfaces() == {}
        assert {path.name for path in (run / "networks").iterdir()} == set()
        die(driver)
        if not killed:
            break
    else:
        raise AssertionError("it was always killed")
    until(lambda: "dyv" not in ip("-o link"), 30)


def test_networks_and_containers_come_and_go_with_kills_and_leave_nothing(run: Path) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    driver = make(run)
    driver.init({})
    for number in range(ROUNDS):
        name = f"n{number % 7}"
        made = network(name, ipv6=chance.random() < 0.5, internal=chance.random() < 0.2)
        jobs: list[Any] = [made]
        jobs += [join(one, chance.choice(["", name, name]), 8080 + one, generation=number + 1) for one in (1, 2, 3)]
        jobs += [join(1, name, 8081, generation=number + 1)]
        for job in jobs:
            if chance.random() < 0.3:
                die(driver)
                killed_at(chance.randrange(STEPS_A_KILL), run, lambda driver, job=job: carry_out(driver, job))  # type: ignore[misc]
                driver = make(run)
            carry_out(driver, job)
        driver.init({container(one): number + 1 for one in (1, 2, 3)}, [made.network])
        check(driver, run)
        ends: list[Any] = [container(one) for one in (1, 2, 3)] + [UnmakeNetwork(network=id_of(name))]
        for end in ends:
            if chance.random() < 0.3:
                die(driver)
                killed_at(chance.randrange(STEPS_A_KILL), run, lambda driver, end=end: carry_out(driver, end))  # type: ignore[misc]
                driver = make(run)
            carry_out(driver, end)
        check(driver, run)
        assert driver.interfaces() == {}
        assert list(driver._networks) == []
    until(lambda: "dyv" not in ip("-o link"), 30)
    assert "br-" not in ip("-o link")


def carry_out(driver: NetDriver, job: Any) -> None:
    if isinstance(job, MakeNetwork):
        driver.make_network(job)
    elif isinstance(job, UnmakeNetwork):
        driver.unmake_network(job)
    elif isinstance(job, str):
        driver.release(job, None)
    else:
        driver.allocate(job)


def test_what_is_refused_leaves_nothing(run: Path) -> None:
    driver = make(run, default_address_pools=("172.20.0.0/29/29",))
    driver.init({})
    driver.make_network(network("app"))
    driver.allocate(join(1, "app", 8080))
    before = in_the_kernel(), sorted(path.name for path in run.rglob("*"))
    refused: list[Any] = [
        network("more"),  # the pool is exhausted
        network("twice", subnet="172.20.0.0/24"),
        join(2, "app", 8080),  # the port is taken
        join(2, "app", 8081, address="172.20.0.2"),
        join(2, "app", 8081, address="10.0.0.1"),
        join(2, "app", 8081, mac_address="01:00:00:00:00:01"),
        join(2, "app", 8081, ports={"80/tcp": [PortBinding(host_port="99999")]}),
        join(2, "app", 8081, ports={"80/tcp": [PortBinding(host_ip="198.51.100.7", host_port="81")]}),
        join(2, "nowhere", 8081),
        UnmakeNetwork(network=id_of("app")),
    ]
    for job in refused:
        with pytest.raises(DockyardError):
            carry_out(driver, job)
        assert (in_the_kernel(), sorted(path.name for path in run.rglob("*"))) == before
    for number in (2, 3, 4, 5):
        driver.allocate(join(number, "app", 8080 + number))
    with pytest.raises(DockyardError, match="no available IPv4 addresses in 172"):
        driver.allocate(join(6, "app", 8090))
    check(driver, run)
