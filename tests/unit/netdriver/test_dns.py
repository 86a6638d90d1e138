"""The DNS server's messages and names: no root, no network beyond 127.0.0.1."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import msgspec
import pytest
from dnslib import EDNS0, QTYPE, RCODE, RR, A, DNSRecord
from hypothesis import given
from hypothesis import strategies as st

from services.netdriver.dns.answers import failure, parse
from services.netdriver.dns.names import Names
from services.netdriver.dns.upstream import Upstream, host_servers
from services.netdriver.leases import Lease, Leases
from shared.protocol import Interface

APP, OTHER = "a" * 64, "b" * 64
WEB, DB, SPY = "1" * 64, "2" * 64, "3" * 64


def lease(container: str, address: str, *names: str, network: str = APP, **more: object) -> Lease:
    title = {APP: "app", OTHER: "other"}[network]
    interface = Interface(
        mode="bridge", network=network, name="eth0", address=address, gateway=str(more.pop("gateway", "10.0.0.1"))
    )
    return Lease(container=container, generation=1, interface=interface, network_name=title, names=list(names), **more)  # type: ignore[arg-type]


@pytest.fixture
def leases(tmp_path: Path) -> Leases:
    leases = Leases(tmp_path)
    leases.put(lease(WEB, "10.0.0.2", "web", "Front", links={"Backend": "db"}))
    leases.put(lease(DB, "10.0.0.3", "db"))
    leases.put(lease(SPY, "10.1.0.2", "spy", network=OTHER))
    return leases


@pytest.fixture
def names(leases: Leases, tmp_path: Path) -> Names:
    names = Names(tmp_path)
    names.refresh()
    return names


def ask(names: Names, container: str, name: str, kind: str = "A") -> list[str] | None:
    """Return what is answered, None where others are asked."""
    query = parse(DNSRecord.question(name, kind).pack())
    assert query is not None
    answer = query.answer(names, container)
    if answer is None:
        return None
    record = DNSRecord.parse(answer)
    assert record.header.rcode == RCODE.NOERROR
    return [str(one.rdata) for one in record.rr]


def test_names_are_those_of_the_networks_that_who_asks_is_in(names: Names) -> None:
    assert ask(names, WEB, "db") == ["10.0.0.3"]
    assert ask(names, WEB, "DB.") == ["10.0.0.3"]
    assert ask(names, WEB, "db.app") == ["10.0.0.3"]
    assert ask(names, DB, "front") == ["10.0.0.2"]
    assert ask(names, WEB, "spy") is None
    assert ask(names, SPY, "db") is None
    assert ask(names, SPY, "db.app") is None
    assert ask(names, "f" * 64, "db") is None


def test_links_are_seen_by_their_owner_alone(names: Names) -> None:
    assert ask(names, WEB, "backend") == ["10.0.0.3"]
    assert ask(names, DB, "backend") is None


@pytest.mark.parametrize("kind", ["AAAA", "MX", "TXT", "SRV", "HTTPS"])
def test_a_name_of_ours_has_nothing_but_addresses(names: Names, kind: str) -> None:
    assert ask(names, WEB, "db", kind) == []


def test_addresses_have_names(names: Names) -> None:
    assert ask(names, WEB, "3.0.0.10.in-addr.arpa", "PTR") == ["db.app."]
    assert ask(names, WEB, "2.0.1.10.in-addr.arpa", "PTR") is None
    assert ask(names, WEB, "x.in-addr.arpa", "PTR") is None


def test_changes_show_at_once(leases: Leases, names: Names) -> None:
    for number in range(50):
        leases.put(lease(SPY, f"10.0.0.{number + 10}", "late"))
        names.refresh()
        assert ask(names, WEB, "late") == [f"10.0.0.{number + 10}"]
        leases.drop(lease(SPY, "", "late"))
        names.refresh()
        assert ask(names, WEB, "late") is None


def test_those_who_share_a_name_take_turns(leases: Leases, names: Names) -> None:
    leases.put(lease(SPY, "10.0.0.9", "db"))
    names.refresh()
    answers = [ask(names, WEB, "db") for _ in range(4)]
    assert all(sorted(answer or []) == ["10.0.0.3", "10.0.0.9"] for answer in answers)
    assert {(answer or [""])[0] for answer in answers} == {"10.0.0.3", "10.0.0.9"}


def test_who_asks_for_both_families_sees_all_take_turns(leases: Leases, names: Names) -> None:
    """A resolver asks for A and AAAA, one after the other: a turn of each must not hide half of the other."""
    leases.put(lease(SPY, "10.0.0.9", "db"))
    names.refresh()
    firsts = set()
    for _ in range(4):
        firsts.add((ask(names, WEB, "db") or [""])[0])
        assert ask(names, WEB, "db", "AAAA") == []
    assert firsts == {"10.0.0.3", "10.0.0.9"}


def test_addresses_of_ipv6(leases: Leases, names: Names) -> None:
    one = lease(SPY, "10.0.0.9", "six")
    leases.put(msgspec.structs.replace(one, interface=msgspec.structs.replace(one.interface, address6="fd00::9")))
    names.refresh()
    assert ask(names, WEB, "six", "AAAA") == ["fd00::9"]
    assert ask(names, WEB, "six", "ANY") == ["10.0.0.9", "fd00::9"]
    pointer = "9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa"
    assert ask(names, WEB, pointer, "PTR") == ["six.app."]
    assert ask(names, WEB, pointer.upper(), "PTR") == ["six.app."]
    for wrong in ("9.ip6.arpa", pointer.replace("9", "+"), pointer.replace("9.0", "90")):
        assert ask(names, WEB, wrong, "PTR") is None


def test_who_has_no_way_out_gets_no_names_from_outside(leases: Leases, names: Names) -> None:
    assert names.reaches_out(WEB)
    leases.put(lease(WEB, "10.0.0.2", "web", gateway=""))
    names.refresh()
    assert not names.reaches_out(WEB)
    leases.put(Lease(container=WEB, generation=1, interface=Interface(mode="bridge", address="1.1.1.1", gateway="1")))
    assert names.reaches_out(WEB)


def test_a_damaged_lease_is_nobodys_name(leases: Leases, names: Names, tmp_path: Path) -> None:
    (tmp_path / f"{DB}.{APP[:12]}.json").write_bytes(b"{")
    names.refresh()
    assert ask(names, WEB, "db") is None
    assert ask(names, WEB, "web") == ["10.0.0.2"]


def test_what_is_too_long_for_udp_says_so(leases: Leases, names: Names) -> None:
    for number in range(60):
        leases.put(lease(f"{number + 16:064x}", f"10.0.1.{number}", "many"))
    names.refresh()
    for allowed, truncated in ((None, True), (512, True), (4096, False)):
        question = DNSRecord.question("many")
        if allowed:
            question.add_ar(EDNS0(udp_len=allowed))
        query = parse(question.pack())
        assert query is not None
        answer = query.answer(names, WEB)
        assert answer is not None
        record = DNSRecord.parse(query.fitting(answer))
        assert (bool(record.header.tc), len(record.rr)) == (truncated, 0 if truncated else 60)
        assert record.header.id == question.header.id


@given(st.binary(max_size=600))
def test_any_bytes_are_a_question_or_not_and_never_an_error(message: bytes) -> None:
    query = parse(message)
    if query is None:
        answer = failure(message)
        if answer is not None:
            assert answer[:2] == message[:2]
            assert DNSRecord.parse(answer).header.rcode in (RCODE.FORMERR, RCODE.NOTIMP)
    else:
        assert DNSRecord.parse(query.failed()).header.rcode == RCODE.SERVFAIL


def test_answers_are_not_answered() -> None:
    reply = DNSRecord.question("db").reply().pack()
    assert parse(reply) is None
    assert failure(reply) is None


# -- upstream


@contextmanager
def nameserver(answer: Callable[[DNSRecord], bytes | None], host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    """Answer by UDP and TCP on one port."""
    tcp = socket.create_server((host, port))
    port = tcp.getsockname()[1]
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((host, port))

    def serve_udp() -> None:
        while True:
            message, client = udp.recvfrom(4096)
            if not message:
                return
            reply = answer(DNSRecord.parse(message))
            if reply:
                udp.sendto(reply, client)

    def serve_tcp() -> None:
        while True:
            connection, _ = tcp.accept()
            with connection:
                message = connection.recv(4096)
                if not message:
                    return
                reply = answer(DNSRecord.parse(message[2:]))
                if reply:
                    connection.sendall(len(reply).to_bytes(2) + reply)

    threads = [Thread(target=serve_udp), Thread(target=serve_tcp)]
    for thread in threads:
        thread.start()
    try:
        yield port
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", (host, port))
        socket.create_connection((host, port)).close()
        for thread in threads:
            thread.join()
        udp.close()
        tcp.close()


def says(address: str) -> Callable[[DNSRecord], bytes]:
    def answer(query: DNSRecord) -> bytes:
        reply = query.reply()
        reply.add_answer(RR(query.q.qname, QTYPE.A, ttl=60, rdata=A(address)))
        packed: bytes = reply.pack()
        return packed

    return answer


def refuses(query: DNSRecord) -> bytes:
    reply = query.reply()
    reply.header.rcode = RCODE.REFUSED
    packed: bytes = reply.pack()
    return packed


def forward(port: int, *servers: str, tcp: bool = False) -> DNSRecord | None:
    question = DNSRecord.question("example.com")
    answer = asyncio.run(Upstream(port).ask(question.pack(), list(servers), tcp=tcp))
    if answer is None:
        return None
    record = DNSRecord.parse(answer)
    assert record.header.id == question.header.id
    return record


@pytest.mark.parametrize("tcp", [False, True])
def test_the_first_good_answer_counts(tcp: bool) -> None:
    with (
        nameserver(refuses) as port,
        nameserver(lambda query: None, "127.0.0.2", port),
        nameserver(says("192.0.2.1"), "127.0.0.3", port),
    ):
        record = forward(port, "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", tcp=tcp)
        assert record is not None
        assert str(record.rr[0].rdata) == "192.0.2.1"
        refused = forward(port, "127.0.0.4", "127.0.0.1", tcp=tcp)
        assert refused is not None
        assert refused.header.rcode == RCODE.REFUSED
        assert forward(port, "127.0.0.4", tcp=tcp) is None


def test_the_first_server_is_preferred() -> None:
    with nameserver(says("192.0.2.1")) as port, nameserver(says("192.0.2.2"), "127.0.0.2", port):
        for _ in range(20):
            record = forward(port, "127.0.0.1", "127.0.0.2")
            assert record is not None
            assert str(record.rr[0].rdata) == "192.0.2.1"


def test_the_hosts_servers(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("# x\nnameserver 192.0.2.1\nsearch a\nnameserver fe80::1%eth0\nnameserver junk\nnameserver\n")
    assert host_servers(path) == ["192.0.2.1", "fe80::1%eth0"]
    assert host_servers(tmp_path / "none") == []
