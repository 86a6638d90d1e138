from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import msgspec
import pytest

from services.netdriver.firewall import Firewall
from services.netdriver.leases import Peer
from services.netdriver.nft import NftError
from services.netdriver.rules import MAPS, SETS, Policy, Zone, render, zone_elements
from shared.protocol import AllocatedPort
from tests.unit.netdriver.rig import until

GOLDEN = Path(__file__).parents[2] / "golden" / "netdriver" / "table.nft"
SUBNET, SUBNET6 = IPv4Network("172.30.0.0/16"), IPv6Network("fd00:30::/64")
WEB = AllocatedPort(container_port=80, protocol="tcp", host_ip="0.0.0.0", host_port=8080)
WEB6 = AllocatedPort(container_port=80, protocol="tcp", host_ip="::", host_port=8080)
LOCAL = AllocatedPort(container_port=80, protocol="tcp", host_ip="127.0.0.1", host_port=8081)
LOCAL6 = AllocatedPort(container_port=80, protocol="tcp", host_ip="fd98::2", host_port=8081)
DNS = AllocatedPort(container_port=53, protocol="udp", host_ip="0.0.0.0", host_port=53)
THROUGH = AllocatedPort(container_port=80, protocol="tcp", host_ip="0.0.0.0", host_port=0, asked="8080")
THROUGH6 = AllocatedPort(container_port=80, protocol="tcp", host_ip="::", host_port=0)
ADMITTED = [(THROUGH, "172.20.4.2"), (THROUGH6, "fd00:30::2"), (LOCAL, "172.20.4.2")]
PEER = Peer(container="c" * 64, generation=1, address="172.30.0.3", protocol="tcp", port=80)
ZONE = Zone("dockyard0", (SUBNET,), Policy())


class FakeNft:
    """Keep the transactions; refuse those that begin with one of ``refuses``."""

    def __init__(self) -> None:
        self.transactions: list[str] = []
        self.refuses: tuple[str, ...] = ()
        self.tables = ""
        self.on_run: Callable[[], object] = lambda: None

    def run(self, commands: str) -> str:
        if commands.startswith("list"):
            return self.tables if commands == "list tables" else f"{commands}\n"
        self.on_run()
        if commands.startswith(self.refuses):
            raise NftError("No such file or directory")
        self.transactions.append(commands)
        return ""


def built() -> tuple[FakeNft, Firewall]:
    nft = FakeNft()
    firewall = Firewall(nft, "dockyard0")  # type: ignore[arg-type]
    firewall.put_zone(ZONE)
    firewall.rebuild()
    nft.transactions.clear()
    return nft, firewall


def test_no_set_is_declared_by_a_plain_type() -> None:
    """nft 1.1 notes such a key as a constant, and nft 1.0.6 dies of that note, whichever table it was asked for."""
    declared = [*SETS.values(), *MAPS.values()]
    assert declared
    for text in declared:
        key = text.partition(";")[0].partition(":")[0]
        assert key.startswith("typeof ") or " . " in key, text


def test_the_table() -> None:
    zones = [
        ZONE,
        Zone("br-app", (IPv4Network("172.20.0.0/24"), SUBNET6), Policy()),
        Zone("br-shut", (IPv4Network("172.20.1.0/24"),), Policy(internal=True)),
        Zone("br-as", (IPv4Network("172.20.3.0/24"), SUBNET6), Policy(leaves_as=("198.18.0.9", ""))),
        Zone("br-plain", (IPv4Network("172.20.2.0/24"),), Policy(ip_masq=False, icc=False)),
        Zone(
            "br-way", (IPv4Network("172.20.4.0/24"), SUBNET6), Policy(modes=("nat", "routed"), trusted=("wg0", "eth1"))
        ),
        Zone("br-open", (IPv4Network("172.20.5.0/24"),), Policy(modes=("nat-unprotected", "nat"))),
    ]
    published = dict.fromkeys((WEB, LOCAL, DNS), "172.30.0.2") | dict.fromkeys((WEB6, LOCAL6), "fd00:30::2")
    text = render("dockyard_dockyard0", zones, published, [("172.30.0.2", PEER)], admitted=ADMITTED)
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        (Policy(), {"bridges", "among", "home4", "masqueraded4"}),
        (Policy(ip_masq=False), {"bridges", "among", "home4"}),
        (Policy(icc=False), {"bridges", "home4", "masqueraded4"}),
        (Policy(internal=True), {"bridges", "internal", "among", "home4"}),
        (Policy(modes=("routed", "nat")), {"bridges", "among", "home4", "routed4"}),
        (Policy(modes=("nat", "routed")), {"bridges", "among", "home4", "masqueraded4"}),
        (Policy(modes=("nat-unprotected", "nat")), {"bridges", "among", "home4", "masqueraded4", "open4"}),
        (Policy(modes=("nat-unprotected", "nat"), internal=True), {"bridges", "internal", "among", "home4"}),
        (Policy(trusted=("wg0",)), {"bridges", "among", "home4", "masqueraded4", "trusted"}),
    ],
)
def test_what_a_network_is_to_the_rules(policy: Policy, names: set[str]) -> None:
    assert {name for name, _ in zone_elements(Zone("b0", (SUBNET,), policy))} == names


def test_a_network_that_comes_or_goes_changes_no_other() -> None:
    nft, firewall = built()
    other = Zone("br-app", (IPv4Network("172.20.0.0/24"),), Policy(ip_masq=False))
    firewall.put_zone(other)
    firewall.put_zone(other)
    added = [
        'add element inet dockyard_dockyard0 bridges { "br-app" }',
        'add element inet dockyard_dockyard0 among { "br-app" . "br-app" }',
        'add element inet dockyard_dockyard0 home4 { 172.20.0.0/24 . "br-app" }',
    ]
    assert nft.transactions == ["\n".join(added)]
    firewall.remove_zone("br-app")
    firewall.remove_zone("br-app")
    assert nft.transactions[1:] == ["\n".join(added).replace("add", "delete")]


def test_a_port_is_one_element() -> None:
    nft = FakeNft()
    firewall = Firewall(nft, "b0")  # type: ignore[arg-type]
    firewall.publish({DNS: "172.30.0.9"})  # noted: there is no table yet
    assert nft.transactions == []
    firewall.rebuild()
    assert "udp . 53 : 172.30.0.9 . 53" in nft.transactions.pop()
    firewall.publish(dict.fromkeys((WEB, LOCAL), "172.30.0.2") | {WEB6: "fd00::2"})
    assert nft.transactions.pop().splitlines() == [
        "add element inet dockyard_b0 published4 { tcp . 8080 : 172.30.0.2 . 80 }",
        "add element inet dockyard_b0 published_at4 { 127.0.0.1 . tcp . 8081 : 172.30.0.2 . 80 }",
        "add element inet dockyard_b0 published6 { tcp . 8080 : fd00::2 . 80 }",
    ]
    firewall.unpublish({WEB: "172.30.0.2"})
    assert nft.transactions.pop() == "delete element inet dockyard_b0 published4 { tcp . 8080 }"
    firewall.unpublish({WEB: "172.30.0.2"})
    assert nft.transactions == []


def test_what_is_let_through_is_one_element_for_all_who_need_it() -> None:
    nft, firewall = built()
    firewall.publish({THROUGH: "172.30.0.2", THROUGH6: "fd00::2"})
    assert nft.transactions.pop().splitlines() == [
        "add element inet dockyard_dockyard0 admitted4 { 172.30.0.2 . tcp . 80 }",
        "add element inet dockyard_dockyard0 admitted6 { fd00::2 . tcp . 80 }",
    ]
    assert firewall.published == []
    firewall.publish({WEB: "172.30.0.2"}, admit=True)
    assert nft.transactions.pop().splitlines() == [
        "add element inet dockyard_dockyard0 published4 { tcp . 8080 : 172.30.0.2 . 80 }",
        "add element inet dockyard_dockyard0 admitted4 { 172.30.0.2 . tcp . 80 }",
    ]
    firewall.publish({THROUGH: "172.30.0.9"})  # another container's, of the same port
    nft.transactions.clear()
    firewall.unpublish({THROUGH: "172.30.0.2", WEB: "172.30.0.9"})
    assert nft.transactions == []
    firewall.unpublish({WEB: "172.30.0.2"})
    assert nft.transactions.pop().splitlines() == [
        "delete element inet dockyard_dockyard0 published4 { tcp . 8080 }",
        "delete element inet dockyard_dockyard0 admitted4 { 172.30.0.2 . tcp . 80 }",
    ]


def test_a_port_moves_in_one_transaction_and_who_had_it_cannot_take_it_back() -> None:
    nft, firewall = built()
    firewall.publish({WEB: "172.30.0.2"})
    firewall.publish({WEB: "172.20.0.2"})
    assert nft.transactions.pop().splitlines() == [
        "delete element inet dockyard_dockyard0 published4 { tcp . 8080 }",
        "add element inet dockyard_dockyard0 published4 { tcp . 8080 : 172.20.0.2 . 80 }",
    ]
    firewall.unpublish({WEB: "172.30.0.2"})
    assert firewall.published == [WEB]


def test_links_end_with_either_side() -> None:
    nft, firewall = built()
    firewall.link("172.30.0.2", [PEER])
    firewall.link("172.30.0.2", [PEER])
    element = "element inet dockyard_dockyard0 links { 172.30.0.2 . 172.30.0.3 . tcp . 80 }"
    assert nft.transactions == [f"add {element}"]
    firewall.unlink("172.30.0.3")
    firewall.unlink("172.30.0.2")
    assert nft.transactions[1:] == [f"delete {element}"]


def test_a_refused_change_makes_the_whole_table_again() -> None:
    nft, firewall = built()
    nft.refuses = ("add element",)
    firewall.publish({WEB: "172.30.0.2"})
    assert "tcp . 8080 : 172.30.0.2 . 80" in nft.transactions[-1]
    nft.refuses = ("add", "table")
    with pytest.raises(NftError):
        firewall.publish({DNS: "172.30.0.2"})


def test_the_tables_of_an_earlier_release_go_in_the_same_transaction() -> None:
    nft = FakeNft()
    nft.tables = "table ip dockyard_dockyard0\ntable ip dockyard_br-app\ntable ip dockyard_dk1\ntable inet filter\n"
    firewall = Firewall(nft, "dockyard0")  # type: ignore[arg-type]
    firewall.put_zone(ZONE)
    firewall.put_zone(Zone("br-app", (), Policy()))
    firewall.rebuild()
    (made,) = nft.transactions
    assert made.startswith("delete table ip dockyard_dockyard0\ndelete table ip dockyard_br-app\ntable inet")


def test_one_that_is_not_enabled_removes_its_table_and_makes_none() -> None:
    nft = FakeNft()
    nft.tables = "table ip dockyard_b0\ntable inet dockyard_b01\n"
    firewall = Firewall(nft, "b0", enabled=False)  # type: ignore[arg-type]
    firewall.rebuild()
    assert nft.transactions == []  # nothing is said that a kernel without such tables would refuse
    nft.tables += "table inet dockyard_b0\n"
    firewall.rebuild()
    assert nft.transactions == ["delete table inet dockyard_b0"]
    firewall.publish({WEB: "172.30.0.2"})  # of a lease from before
    firewall.unpublish({WEB: "172.30.0.2"})
    assert len(nft.transactions) == 1


def test_flows_are_forgotten_after_the_rules_are_changed_and_not_before_there_are_any() -> None:
    nft, told = FakeNft(), list[tuple[int, list[AllocatedPort]]]()
    firewall = Firewall(nft, "dockyard0", forget=lambda ports: told.append((len(nft.transactions), list(ports))))  # type: ignore[arg-type]
    firewall.publish({DNS: "172.30.0.2"})
    assert told == []
    firewall.rebuild()
    firewall.publish({DNS: "172.30.0.2"})
    firewall.publish({DNS: "172.30.0.3"})
    firewall.unpublish({DNS: "172.30.0.3"})
    assert [(count, ports) for count, ports in told if ports] == [(2, [DNS]), (3, [DNS])]


def test_changes_that_come_while_one_is_carried_out_go_in_one_transaction() -> None:
    nft, firewall = built()
    begun, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        assert go_on.wait(5)

    nft.on_run = wait
    ports = [msgspec.structs.replace(WEB, host_port=number) for number in range(9000, 9008)]
    with ThreadPoolExecutor(len(ports)) as pool:
        first = pool.submit(firewall.publish, {ports[0]: "172.30.0.2"})
        assert begun.wait(5)
        others = [pool.submit(firewall.publish, {port: "172.30.0.2"}) for port in ports[1:]]
        until(lambda: len(firewall.published) == len(ports))
        go_on.set()
        for each in (first, *others):
            each.result(5)
    assert len(nft.transactions) == 2
    assert all(f" {port.host_port} " in nft.transactions[1] for port in ports[1:])


def test_a_change_is_not_taken_for_done_while_the_table_cannot_be_made() -> None:
    nft, firewall = built()
    nft.refuses = ("add", "table")
    for port in (WEB, LOCAL):  # the second's own commands might pass: the first's are not in the kernel
        with pytest.raises(NftError):
            firewall.publish({port: "172.30.0.2"})
    assert not nft.transactions
    nft.refuses = ()
    firewall.publish({DNS: "172.30.0.2"})
    assert len(nft.transactions) == 1
    assert all(f" {port.host_port} " in nft.transactions[0] for port in (WEB, LOCAL, DNS))


def test_what_changes_while_the_table_is_first_made_is_in_it_in_the_end() -> None:
    nft = FakeNft()
    firewall = Firewall(nft, "dockyard0")  # type: ignore[arg-type]
    firewall.put_zone(ZONE)
    late = threading.Thread(target=firewall.publish, args=({WEB: "172.30.0.2"},))

    def meanwhile() -> None:
        if not late.ident:
            late.start()
            until(lambda: WEB in firewall.published)

    nft.on_run = meanwhile
    firewall.rebuild()
    late.join(5)
    assert " 8080 " not in nft.transactions[0]
    assert " 8080 " in nft.transactions[1]
