from __future__ import annotations

import os
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from services.netdriver.firewall import Firewall, Policy, render
from services.netdriver.nft import NftError
from shared.protocol import AllocatedPort

GOLDEN = Path(__file__).parents[2] / "golden" / "netdriver" / "table.nft"
SUBNET = IPv4Network("172.30.0.0/16")
WEB = AllocatedPort(container_port=80, protocol="tcp", host_ip="0.0.0.0", host_port=8080)
LOCAL = AllocatedPort(container_port=80, protocol="tcp", host_ip="127.0.0.1", host_port=8081)
DNS = AllocatedPort(container_port=53, protocol="udp", host_ip="0.0.0.0", host_port=53)


class FakeNft:
    """Keep the transactions; refuse those that begin with one of ``refuses``."""

    def __init__(self) -> None:
        self.transactions: list[str] = []
        self.refuses: tuple[str, ...] = ()

    def run(self, commands: str) -> str:
        if commands.startswith(self.refuses):
            raise NftError("No such file or directory")
        self.transactions.append(commands)
        return ""


def test_the_table() -> None:
    text = render("dockyard_dockyard0", "dockyard0", SUBNET, dict.fromkeys((WEB, LOCAL, DNS), "172.30.0.2"), Policy())
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_without_ip_masq_only_what_publishing_needs_is_masqueraded() -> None:
    text = render("t", "b", SUBNET, {}, Policy(ip_masq=False))
    assert 'oifname != "b" masquerade' not in text
    assert text.count("masquerade") == 1
    assert "elements" not in text


def test_a_port_is_one_element() -> None:
    nft = FakeNft()
    firewall = Firewall(nft, "b0")
    firewall.publish([DNS], "172.30.0.9")  # noted: there is no table yet
    assert nft.transactions == []
    firewall.rebuild(SUBNET)
    assert "udp . 53 : 172.30.0.9 . 53" in nft.transactions.pop()
    firewall.publish([WEB, LOCAL], "172.30.0.2")
    assert nft.transactions.pop().splitlines() == [
        "add element ip dockyard_b0 published { tcp . 8080 : 172.30.0.2 . 80 }",
        "add element ip dockyard_b0 published_at { 127.0.0.1 . tcp . 8081 : 172.30.0.2 . 80 }",
    ]
    firewall.unpublish([WEB])
    assert nft.transactions.pop().splitlines()[1] == (
        "delete element ip dockyard_b0 published { tcp . 8080 : 172.30.0.2 . 80 }"
    )
    firewall.unpublish([WEB])
    assert nft.transactions == []


def test_a_refused_change_makes_the_whole_table_again() -> None:
    nft = FakeNft()
    firewall = Firewall(nft, "b0")
    firewall.rebuild(SUBNET)
    nft.refuses = ("add element",)
    firewall.publish([WEB], "172.30.0.2")
    assert "tcp . 8080 : 172.30.0.2 . 80" in nft.transactions[-1]
    firewall.unpublish([WEB])
    assert "8080" not in nft.transactions[-1]
    nft.refuses = ("add",)
    with pytest.raises(NftError):
        firewall.publish([WEB], "172.30.0.2")


def test_without_icc_the_bridge_does_not_forward_to_itself() -> None:
    forward = render("t", "b", SUBNET, {}, Policy(icc=False)).partition("chain forward")[2]
    assert 'iifname "b"' not in forward
    assert 'iifname "b" accept' in render("t", "b", SUBNET, {}, Policy()).partition("chain forward")[2]


def test_one_that_is_not_enabled_removes_its_table_and_makes_none() -> None:
    nft = FakeNft()
    firewall = Firewall(nft, "b0", Policy(ip_masq=False), enabled=False)
    firewall.rebuild(SUBNET)
    assert nft.transactions == ["add table ip dockyard_b0\ndelete table ip dockyard_b0\n"]
    firewall.publish([WEB], "172.30.0.2")  # of a lease from before
    firewall.unpublish([WEB])
    assert len(nft.transactions) == 1
