"""What the netdriver says of firewalls of the host's, made as ufw, firewalld and administrators make them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.netdriver.firewall import Firewall
from shared.protocol import AllocatedPort
from tests.unit.netdriver.rig import make, own_netns, shell, want

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.fixture
def firewall(tmp_path: Path) -> Iterator[Firewall]:
    with own_netns(tmp_path):
        driver = make(tmp_path)
        driver.init({})
        driver.allocate(want(1, tcp80="8080"))
        driver.allocate(want(2, tcp80="8443"))
        assert driver.firewall is not None
        yield driver.firewall


INPUT_DROP = "table ip filter { chain INPUT { type filter hook input priority 0; policy drop; %s } %s }"
FORWARD_END = "table inet fw { chain filter_FORWARD { type filter hook forward priority 10; %s reject; } }"


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("", []),
        ("table inet fw { chain in { type filter hook input priority 0; } }", []),
        (INPUT_DROP % ("", ""), ["ports 8080/tcp, 8443/tcp are published although chain INPUT of table ip filter"]),
        (INPUT_DROP % ("tcp dport 8080 accept", ""), ["port 8443/tcp is published although chain INPUT"]),
        (INPUT_DROP % ("tcp dport { 22, 8000-8500 } accept", ""), []),
        (INPUT_DROP % ("jump user", "chain user { tcp dport 8443 counter accept; }"), ["port 8080/tcp is published"]),
        (INPUT_DROP % ("ct state established accept", ""), ["ports 8080/tcp, 8443/tcp are published"]),
        (INPUT_DROP % ("accept", ""), []),
        ("table ip6 filter { chain INPUT { type filter hook input priority 0; policy drop; } }", []),
        (FORWARD_END % "", ["chain filter_FORWARD of table inet fw denies forwarded packets"]),
        (FORWARD_END % "ct status dnat accept;", []),
        (FORWARD_END % 'oifname "dockyard0" accept;', []),
        (FORWARD_END % 'oifname "eth7" accept;', ["chain filter_FORWARD of table inet fw denies forwarded packets"]),
    ],
)
def test_what_is_said(firewall: Firewall, tmp_path: Path, rules: str, said: list[str]) -> None:
    file = tmp_path / "rules.nft"
    file.write_text(rules.replace("; ", ";\n").replace("{ chain", "{\nchain").replace(" }", "\n}\n"))
    shell(f"nft -f {file}")
    found = firewall.denials()
    assert len(found) == len(said)
    assert all(text in one for text, one in zip(said, found, strict=True))


def test_ports_of_the_loopback_are_nobodys_business(firewall: Firewall) -> None:
    for address in ("172.30.0.2", "172.30.0.3"):
        firewall.unpublish(dict.fromkeys(firewall.published, address))
    local = AllocatedPort(container_port=80, protocol="tcp", host_ip="127.0.0.1", host_port=8081)
    firewall.publish({local: "172.30.0.2"})
    shell("nft add table ip filter")
    shell("nft add chain ip filter INPUT { type filter hook input priority 0 ; policy drop ; }")
    assert firewall.denials() == []


def test_what_is_let_through_to_a_container_is_forwarded_and_no_port_of_the_hosts(firewall: Firewall) -> None:
    for address in ("172.30.0.2", "172.30.0.3"):
        firewall.unpublish(dict.fromkeys(firewall.published, address))
    port = AllocatedPort(container_port=80, protocol="tcp", host_ip="127.0.0.1", host_port=0, asked="8080")
    firewall.publish({port: "172.30.0.2"})
    shell("nft add table ip filter")
    for hook in ("input", "forward"):
        shell(f"nft add chain ip filter {hook} {{ type filter hook {hook} priority 0 ; policy drop ; }}")
    (said,) = firewall.denials()
    assert said.startswith("chain forward of table ip filter denies forwarded packets")
