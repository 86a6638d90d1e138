"""A stack that stops, and of which no container runs, leaves nothing of its network in the kernel."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.unit.netdriver.rig import (
    WORLD_ADDRESS,
    container,
    die,
    fetch,
    ip,
    join,
    make,
    network,
    pings,
    server,
    shell,
    until,
    veths,
    want,
)

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
TABLE = "inet dockyard_dockyard0"


def left() -> str:
    """Return what the kernel has: links but those of the rig, and rules."""
    links = [line.split(": ")[1].partition("@")[0] for line in ip("-o link").splitlines()]
    return " ".join(sorted({*links} - {"lo", "uplink"})) + shell("nft list ruleset")


def test_nothing_is_left_and_all_is_made_again(run: Path) -> None:
    driver = make(run)
    driver.init({})
    made = network(driver, "app", ipv6=True)
    one = driver.allocate(want(1, tcp80="8080"))
    join(driver, 2, "app")
    driver.release(container(1), None)
    driver.release(container(2), None)
    driver.depart()
    until(lambda: left() == "", 30)  # a namespace takes its links along in its own time
    assert not list((run / "networks").iterdir())
    die(driver)
    driver = make(run)
    driver.init({}, [made])
    assert join(driver, 2, "app").gateway == made.gateway
    one = driver.allocate(want(1, tcp80="8080"))
    assert pings(one.netns, WORLD_ADDRESS)
    with server(one, "served"):
        assert fetch("127.0.0.1", 8080) == "served"


@pytest.mark.parametrize("mode", ["bridge", "none"])
def test_while_a_container_holds_something_all_stays(run: Path, mode: str) -> None:
    driver = make(run)
    driver.init({})
    network(driver, "app")
    driver.allocate(want(1, mode=mode))
    before = left()
    driver.depart()
    assert left() == before
    assert len(veths()) == (mode == "bridge")


def test_the_operators_rules_stay_with_their_table(run: Path) -> None:
    driver = make(run)
    driver.init({})
    subprocess.run(["nft", f"add rule {TABLE} operator tcp dport 7 drop"], check=True)
    driver.depart()
    assert "tcp dport 7 drop" in shell(f"nft list chain {TABLE} operator")
    assert "dockyard0" not in ip("-o link")
    assert "elements" not in shell(f"nft list table {TABLE}")
    die(driver)
    driver = make(run)
    driver.init({})
    assert "tcp dport 7 drop" in shell(f"nft list chain {TABLE} operator")


@pytest.mark.parametrize("whose", ["bridge", "port"])
def test_what_is_somebody_elses_stays(run: Path, whose: str) -> None:
    if whose == "bridge":
        ip("link add dockyard0 type bridge")
        ip("address add 10.8.0.1/24 dev dockyard0")
    driver = make(run)
    driver.init({})
    if whose == "port":
        ip("link add theirs type veth peer name other")
        ip("link set theirs master dockyard0")
    address = ip("-o -4 address show dockyard0").split()[3]
    driver.depart()
    assert ip("-o -4 address show dockyard0").split()[3] == address
    assert Path("/proc/sys/net/ipv4/conf/dockyard0/route_localnet").read_text() == "0\n"
    assert shell("nft list ruleset") == ""


def test_a_bridge_none_too(run: Path) -> None:
    driver = make(run, bridge="none")
    driver.init({})
    network(driver, "app")
    driver.depart()
    assert left() == ""
