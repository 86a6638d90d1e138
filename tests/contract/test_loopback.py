"""The host's 127.0.0.1 is shut to containers, with the rules and without them (`nft flush ruleset`, a stack down)."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.netdriver.ingress import watch_port
from services.netdriver.netns import inside
from shared.protocol import Interface
from tests.unit.netdriver.rig import container, die, fetch, ip, join, make, network, server, shell, veths, want

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
PORT = 7777
IP, VLAN, SERVICE_VLAN = 0x0800, 0x8100, 0x88A8


@pytest.fixture
def listening(run: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as host:
        host.bind(("127.0.0.1", PORT))
        host.settimeout(0.3)
        yield host


def packet(source: str) -> bytes:
    """Return an IPv4 packet of UDP to 127.0.0.1."""
    text = b"hello"
    addresses = socket.inet_aton(source) + socket.inet_aton("127.0.0.1")
    length = 28 + len(text)
    header = struct.pack("!BBHHHBBH", 0x45, 0, length, 1, 0, 64, socket.IPPROTO_UDP, 0) + addresses
    total = sum(struct.unpack("!10H", header))
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return (
        header[:10] + struct.pack("!H", checksum) + header[12:] + struct.pack("!HHHH", 9, PORT, 8 + len(text), 0) + text
    )


def send(one: Interface, bridge: str, *tags: int) -> None:
    """Send the packet to the bridge itself, behind VLAN tags of number 0 of these kinds."""
    mac = bytes.fromhex(ip(f"-o link show {bridge}").split("link/ether ")[1].split()[0].replace(":", ""))
    kinds = b"".join(struct.pack("!HH", tag, 0) for tag in tags) + struct.pack("!H", IP)
    frame = mac + bytes.fromhex(one.mac_address.replace(":", "")) + kinds + packet(one.address)

    def put() -> None:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as link:
            link.bind((one.name, 0))
            link.send(frame)

    inside(Path(one.netns), put)


def port() -> str:
    (name,) = veths()
    return name


def filters() -> int:
    return shell(f"tc filter show dev {port()} ingress").count("direct-action")


def arrives(host: socket.socket) -> bool:
    try:
        return host.recv(100) == b"hello"
    except TimeoutError:
        return False


TAGS = [(), (VLAN,), (SERVICE_VLAN,), (VLAN, VLAN), (SERVICE_VLAN, VLAN), (VLAN, VLAN, VLAN)]


@pytest.mark.parametrize("user_defined", [False, True], ids=["default", "user-defined"])
def test_after_a_flush_while_the_stack_is_down(run: Path, listening: socket.socket, user_defined: bool) -> None:
    driver = make(run)
    driver.init({})
    bridge = "dockyard0"
    if user_defined:
        bridge = network(driver, "app").bridge
    one = join(driver, 1, "app") if user_defined else driver.allocate(want(1))
    die(driver)
    shell("nft flush ruleset")
    for tags in TAGS:
        send(one, bridge, *tags)
        assert not arrives(listening), tags
    shell(f"tc qdisc del dev {port()} clsact")  # without which all of them do arrive: the frames are right
    for tags in TAGS:
        send(one, bridge, *tags)
        assert arrives(listening), tags
    driver = make(run)
    driver.init({container(1): 1}, [each.network for each in driver._networks if each.network])
    send(one, bridge)
    assert not arrives(listening)
    assert filters() == 1


def test_published_ports_of_127_0_0_1_still_lead_to_containers(run: Path) -> None:
    driver = make(run)
    driver.init({})
    one = driver.allocate(want(1, tcp80="8080"))
    driver.init({container(1): 1})
    assert filters() == 1
    with server(one, "served"):
        assert fetch("127.0.0.1", 8080) == "served"


def test_where_it_cannot_be_that_is_no_error(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    """There are the rules."""
    assert not watch_port("nowhere")
    assert "no filter for frames link=nowhere" in caplog.text
