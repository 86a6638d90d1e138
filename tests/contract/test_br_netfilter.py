"""With br_netfilter the kernel asks the rules for bridged packets, too: what leads by the host must still get there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.netdriver.rig import (
    HOST_ADDRESS,
    fetch,
    join,
    make,
    network,
    pings,
    server,
    want,
)

CALLS = [Path(f"/proc/sys/net/bridge/bridge-nf-call-{family}") for family in ("iptables", "ip6tables", "arptables")]
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not CALLS[0].exists(), reason="no br_netfilter: modprobe br_netfilter"),
]


@pytest.fixture(params=["1", "0"], ids=["calls", "no-calls"])
def filtered(run: Path, request: pytest.FixtureRequest) -> Path:
    for switch in CALLS:
        switch.write_text(request.param)
    return run


@pytest.mark.parametrize("icc", [True, False], ids=["icc", "no-icc"])
def test_published_ports_of_ones_own_network(filtered: Path, icc: bool) -> None:
    """From a neighbour, and from the container itself: by the host's address, and by the bridge's."""
    driver = make(filtered, icc=icc)
    bridge = driver.init({})
    one, two = driver.allocate(want(1, tcp80="8080")), driver.allocate(want(2))
    with server(one, "served"):
        for host in (HOST_ADDRESS, bridge.address.partition("/")[0]):
            for client in (two, one):
                assert fetch(host, 8080, client.netns) == "served", (host, client is one)
        assert fetch(one.address, 80, two.netns) == ("served" if icc else "")
        assert pings(two.netns, one.address) is icc
        assert pings(two.netns, HOST_ADDRESS)


@pytest.mark.parametrize("icc", [True, False], ids=["icc", "no-icc"])
def test_published_ports_of_a_network_of_a_users(filtered: Path, icc: bool) -> None:
    driver = make(filtered)
    driver.init({})
    network(driver, "app", ipv6=True, icc=icc)
    one, two = join(driver, 1, "app", ports=want(1, tcp80="8080").ports), join(driver, 2, "app")
    with server(one, "served"):
        for client in (two, one, driver.allocate(want(3))):
            assert fetch(HOST_ADDRESS, 8080, client.netns) == "served"
        assert fetch(one.address, 80, two.netns) == ("served" if icc else "")
        assert fetch(one.address6, 80, two.netns) == ("served" if icc else "")
