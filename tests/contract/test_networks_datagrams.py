"""The contract of the netdriver for published ports of UDP and SCTP: data goes both ways, and to whom it should."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from services.netdriver.dumps import attributes
from services.netdriver.flows import NETLINK_NETFILTER, _dump, forget
from services.netdriver.netdriver import NetDriver
from shared.protocol import AllocatedPort, AllocateInterface, BridgeNetwork, Interface, MakeNetwork, PortBinding
from tests.unit.netdriver.rig import HOST_ADDRESS, container, die, make, want

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
OWN = "/proc/thread-self/ns/net"
KINDS = {"udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP), "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP)}
ECHO = """
import socket, sys
kind, protocol, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode()
with socket.socket(socket.AF_INET, kind, protocol) as server:
    server.bind(("0.0.0.0", 80))
    if kind == socket.SOCK_STREAM:
        server.listen()
    print(flush=True)
    while True:
        if kind == socket.SOCK_STREAM:
            with server.accept()[0] as connection:
                connection.sendall(name + b" " + connection.recv(99))
        else:
            data, whence = server.recvfrom(99)
            server.sendto(name + b" " + data, whence)
"""
ASK = """
import socket, sys
kind, protocol, address, port, source = (int(one) if one.isdigit() else one for one in sys.argv[1:])
with socket.socket(socket.AF_INET, kind, protocol) as client:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    client.bind(("0.0.0.0", source))
    client.settimeout(2)
    try:
        client.connect((address, port))
        client.send(b"ping")
        print(client.recv(99).decode())
    except OSError as error:
        print("nothing:", error)
"""


def has(protocol: str) -> bool:
    try:
        socket.socket(socket.AF_INET, *KINDS[protocol]).close()
    except OSError:
        return False
    return True


@contextmanager
def echo(interface: Interface, protocol: str, name: str) -> Iterator[None]:
    """Answer on port 80 of a container with its name and what was said."""
    command = ["nsenter", f"--net={interface.netns}", sys.executable, "-c", ECHO, *map(str, KINDS[protocol]), name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "\n"
            yield
        finally:
            process.kill()


def ask(netns: str, protocol: str, address: str, port: int, source: int = 0) -> str:
    enter = [] if netns == OWN else ["nsenter", f"--net={netns}"]
    words = [*map(str, KINDS[protocol]), address, str(port), str(source)]
    command = [*enter, sys.executable, "-c", ASK, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()


def published(driver: NetDriver, number: int, protocol: str) -> Interface:
    ports = {f"80/{protocol}": [PortBinding(host_port="8080")]}
    return driver.allocate(AllocateInterface(container=container(number), generation=1, mode="bridge", ports=ports))


@pytest.mark.parametrize("protocol", KINDS)
def test_a_published_port_carries_data_both_ways_from_everywhere(netdriver: NetDriver, protocol: str) -> None:
    if not has(protocol):
        pytest.skip(f"this kernel has no {protocol}: no socket to listen with")
    one, two = published(netdriver, 1, protocol), netdriver.allocate(want(2))
    with echo(one, protocol, "one"):
        for netns in (os.environ["WORLD"], OWN, two.netns, one.netns):
            assert ask(netns, protocol, HOST_ADDRESS, 8080) == "one ping", netns
        assert ask(OWN, protocol, "127.0.0.1", 8080) == "one ping"


@pytest.mark.parametrize("whence", ["world", "host"])
def test_who_goes_on_sending_reaches_the_container_that_has_the_port_now(netdriver: NetDriver, whence: str) -> None:
    """A flow of UDP has no end: the kernel would lead it to where it led its first packet, as long as it goes on."""
    netns, address = (os.environ["WORLD"], HOST_ADDRESS) if whence == "world" else (OWN, "127.0.0.1")
    assert ask(netns, "udp", address, 8080, 5555).startswith("nothing")  # before there is any
    one = published(netdriver, 1, "udp")
    with echo(one, "udp", "one"):
        assert ask(netns, "udp", address, 8080, 5555) == "one ping"
    netdriver.release(container(1), None)
    two = published(netdriver, 2, "udp")
    assert two.address != one.address
    with echo(two, "udp", "two"):
        assert ask(netns, "udp", address, 8080, 5555) == "two ping"


def test_who_goes_on_asking_for_names_reaches_the_sockets_that_are_there_now(netdriver: NetDriver, run: Path) -> None:
    """Those that netdriver and DNS server held are gone with both, and with the stack; the flows to them are not."""
    made = netdriver.make_network(MakeNetwork(network=BridgeNetwork(id="a" * 64, name="app")))
    one = netdriver.allocate(AllocateInterface(container=container(1), generation=1, mode="bridge", network=made.id))
    for _ in range(2):
        server = netdriver.resolvers._held[container(1)].udp
        server.settimeout(5)
        query = f"import socket; s = socket.socket(type={socket.SOCK_DGRAM:d}); s.bind(('', 5555)); "
        query += "s.sendto(b'ping', ('127.0.0.11', 53))"
        subprocess.run(["nsenter", f"--net={one.netns}", sys.executable, "-c", query], check=True)
        assert server.recv(99) == b"ping"
        die(netdriver)
        netdriver = make(run)
        netdriver.init({container(1): 1}, [made])


@pytest.mark.parametrize("many", [1, 100])
def test_flows_to_other_ports_and_addresses_are_left_alone(netdriver: NetDriver, many: int) -> None:
    """Forgotten one by one, or picked out of all: only those to what is given."""
    for number in (8080, 8081):
        for version, address in ((4, HOST_ADDRESS), (4, "127.0.0.1"), (6, "::1")):
            send(version, address, number)
    every = {("198.18.0.2", n) for n in (8080, 8081)} | {(a, n) for a in ("127.0.0.1", "::1") for n in (8080, 8081)}
    assert every <= flows()
    others = [udp("127.0.0.1", number) for number in range(9000, 9000 + many - 1)]
    forget([udp("127.0.0.1", 8080), *others])
    assert every - flows() == {("127.0.0.1", 8080)}
    forget([udp("0.0.0.0", 8081), udp("::", 8080), *others])
    assert every - flows() == {("127.0.0.1", 8080), (HOST_ADDRESS, 8081), ("127.0.0.1", 8081), ("::1", 8080)}
    forget([AllocatedPort(container_port=80, protocol="tcp", host_ip="0.0.0.0", host_port=8080)])
    assert (HOST_ADDRESS, 8080) in flows()


def udp(host_ip: str, host_port: int) -> AllocatedPort:
    return AllocatedPort(container_port=80, protocol="udp", host_ip=host_ip, host_port=host_port)


def send(version: int, address: str, port: int) -> None:
    with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.sendto(b"ping", (address, port))


def flows() -> set[tuple[str, int]]:
    """Return where the flows of UDP go that the kernel tracks in this namespace."""
    found = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as kernel:
        kernel.bind((0, 0))
        for family, part in ((socket.AF_INET, 2), (socket.AF_INET6, 4)):
            for body in _dump(kernel, family, 0):
                parts = dict(attributes(dict(attributes(body))[1]))  # the original direction
                address, port = dict(attributes(parts[1]))[part], dict(attributes(parts[2]))[3]
                found.add((str(ip_address(address)), int.from_bytes(port, "big")))
    return found
