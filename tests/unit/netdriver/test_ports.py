from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from services.netdriver.ports import HostPorts, Request, parse, request, request_again
from shared.protocol import AllocatedPort, Conflict, InvalidArgument, PortBinding

LOCAL = "127.0.0.1"


@pytest.fixture
def ports() -> Iterator[HostPorts]:
    held = HostPorts()
    yield held
    held.release(list(held._held))


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server((LOCAL, 0)) as server:
        yield server.getsockname()[1]


def tcp(host_port: str, host_ip: str = LOCAL) -> Request:
    return request("80", "tcp", host_ip, host_port)


def test_parse() -> None:
    bindings = {
        "80/tcp": [PortBinding(host_port="8080"), PortBinding(host_ip=LOCAL, host_port="8000-8010")],
        "53/udp": [PortBinding(host_port="0")],
        "90": [],
    }
    assert parse(bindings, "0.0.0.0") == [
        Request(80, "tcp", ("0.0.0.0",), range(8080, 8081)),
        Request(80, "tcp", (LOCAL,), range(8000, 8011)),
        Request(53, "udp", ("0.0.0.0",), range(1)),
        Request(90, "tcp", ("0.0.0.0",), range(1)),
    ]


@pytest.mark.parametrize(
    ("host_ip", "versions", "host_ips"),
    [
        ("", (4, 6), ("0.0.0.0", "::")),
        ("", (6,), ("::",)),
        ("0.0.0.0", (4, 6), ("0.0.0.0",)),
        ("::", (4, 6), ("::",)),
        ("[fd00::7]", (4, 6), ("fd00::7",)),
        ("fd00:0::7", (4, 6), ("fd00::7",)),
    ],
)
def test_the_addresses_that_a_binding_means(host_ip: str, versions: tuple[int, ...], host_ips: tuple[str, ...]) -> None:
    (one,) = parse({"80/tcp": [PortBinding(host_ip=host_ip)]}, "0.0.0.0", versions)
    assert one.host_ips == host_ips


@pytest.mark.parametrize(("host_ip", "versions", "lacks"), [("::", (4,), "IPv6"), ("0.0.0.0", (6,), "IPv4")])
def test_a_container_without_such_an_address_cannot_publish_there(
    host_ip: str, versions: tuple[int, ...], lacks: str
) -> None:
    with pytest.raises(InvalidArgument, match=f"the container has no {lacks} address"):
        parse({"80/tcp": [PortBinding(host_ip=host_ip)]}, "0.0.0.0", versions)


@pytest.mark.parametrize(
    ("container_port", "protocol", "host_ip", "host_port"),
    [
        ("0", "tcp", LOCAL, ""),
        ("65536", "tcp", LOCAL, ""),
        ("80", "icmp", LOCAL, ""),
        ("80", "tcp", "fe80::1", ""),
        ("80", "tcp", "::1", ""),
        ("80", "tcp", "::ffff:127.0.0.1", ""),
        ("80", "tcp", "localhost", ""),
        ("80", "tcp", LOCAL, "http"),
        ("80", "tcp", LOCAL, "-1"),
        ("80", "tcp", LOCAL, "9000-8000"),
        ("80", "tcp", LOCAL, "0-8000"),
        ("80", "tcp", LOCAL, "٣"),
    ],
)
def test_nonsense_is_invalid(container_port: str, protocol: str, host_ip: str, host_port: str) -> None:
    with pytest.raises(InvalidArgument):
        request(container_port, protocol, host_ip, host_port)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_any_free_port_is_ephemeral_and_different_each_time(ports: HostPorts, protocol: str) -> None:
    held = ports.hold([request("80", protocol, LOCAL, "")] * 20)
    assert len({port.host_port for port in held}) == 20
    assert all(port.host_port > 1024 for port in held)


def test_a_port_of_another_lease_is_a_conflict_in_dockers_words(ports: HostPorts) -> None:
    (port,) = ports.hold([tcp("")])
    with pytest.raises(Conflict, match=rf"^Bind for 127.0.0.1:{port.host_port} failed: port is already allocated$"):
        ports.hold([tcp(str(port.host_port))])
    with pytest.raises(Conflict):
        ports.hold([tcp(str(port.host_port), "0.0.0.0")])
    ports.release([port])
    assert ports.hold([tcp(str(port.host_port))]) == [port]


def test_a_listener_of_the_host_is_a_conflict(ports: HostPorts, listener: int) -> None:
    with pytest.raises(Conflict, match="port is already allocated"):
        ports.hold([tcp(str(listener))])


def test_the_host_cannot_take_a_port_that_is_published(ports: HostPorts) -> None:
    (port,) = ports.hold([tcp("")])
    with pytest.raises(OSError, match="in use"):
        socket.create_server((LOCAL, port.host_port)).close()


def test_a_port_in_time_wait_is_free(ports: HostPorts) -> None:
    with socket.create_server((LOCAL, 0)) as server:
        number = server.getsockname()[1]
        client = socket.create_connection((LOCAL, number))
        served, _ = server.accept()
        served.close()  # who closes first is left in TIME_WAIT
        client.close()
    (port,) = ports.hold([tcp(str(number))])
    with pytest.raises(Conflict):
        ports.hold([tcp(str(port.host_port))])


def test_a_range_yields_its_first_free_port(ports: HostPorts, listener: int) -> None:
    wanted = tcp(f"{listener}-{listener + 5}")
    taken = ports.hold([wanted, wanted])
    assert listener not in {port.host_port for port in taken}
    assert all(port.host_port in wanted.host_ports for port in taken)


def test_one_number_for_both_families(ports: HostPorts) -> None:
    wanted = request("80", "tcp", "0.0.0.0", "", (4, 6))
    held = ports.hold([wanted] * 5)
    assert [port.host_ip for port in held] == ["0.0.0.0", "::"] * 5
    assert len({port.host_port for port in held}) == 5
    number = held[0].host_port
    ports.release(held)
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::1", number))
        with pytest.raises(Conflict, match=f"Bind for 0.0.0.0:{number} failed: port is already allocated"):
            ports.hold([request("80", "tcp", "0.0.0.0", str(number), (4, 6))])
    assert not ports._held
    assert not ports._numbers


def test_all_or_nothing(ports: HostPorts, listener: int) -> None:
    free = ports.hold([tcp("")])
    ports.release(free)
    with pytest.raises(Conflict):
        ports.hold([tcp(str(free[0].host_port)), tcp(str(listener))])
    assert ports.hold([tcp(str(free[0].host_port))]) == free


def test_an_address_that_is_not_the_hosts_is_invalid(ports: HostPorts) -> None:
    with pytest.raises(InvalidArgument, match=r"Bind for 198\.51\.100\.7:80 failed: Cannot assign"):
        ports.hold([tcp("80", "198.51.100.7")])


def test_restore_and_release_may_be_repeated(ports: HostPorts) -> None:
    (port,) = ports.hold([tcp("")])
    ports.restore(port)
    ports.release([port])
    ports.release([port])
    ports.restore(port)
    ports.restore(port)


def test_what_meets_a_request() -> None:
    port = AllocatedPort(container_port=80, protocol="tcp", host_ip=LOCAL, host_port=8080)
    assert tcp("8080").is_met_by(port)
    assert tcp("8000-8090").is_met_by(port)
    assert not tcp("").is_met_by(port)
    assert not tcp("8081").is_met_by(port)
    assert not tcp("8080", "0.0.0.0").is_met_by(port)


@pytest.mark.parametrize(("host_port", "asked"), [("", ""), ("0", ""), ("8080", "8080"), ("8000-8090", "8000-8090")])
def test_a_port_without_a_host_port_keeps_what_was_asked(host_port: str, asked: str) -> None:
    (wanted,) = parse({"80/tcp": [PortBinding(host_port=host_port)]}, "0.0.0.0", (4, 6))
    (port,) = wanted.let_through([6])
    assert (port.host_ip, port.host_port, port.asked) == ("::", 0, asked)
    rest = wanted.without([6])
    assert rest == Request(80, "tcp", ("0.0.0.0",), wanted.host_ports)
    assert wanted.without([4, 6]) is None
    assert wanted.is_met_by(port)
    assert request_again(port) == wanted.without([4])
    assert not tcp("8081").is_met_by(port)


def test_a_held_port_is_asked_for_by_its_number_again(ports: HostPorts) -> None:
    (held,) = ports.hold([tcp("")])
    assert request_again(held) == tcp(str(held.host_port))


def test_a_port_without_a_host_port_holds_nothing(ports: HostPorts) -> None:
    ports.restore(AllocatedPort(container_port=80, protocol="tcp", host_ip=LOCAL, host_port=0, asked="8080"))
    assert not ports._held
