"""The relay between a TLS client and a server of plain bytes: what each says and ends reaches the other."""

from __future__ import annotations

import dataclasses
import os
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from services.apiserver.tls import Relay, TlsListener
from shared.runtime.config import Config, ConfigError
from shared.runtime.tls import server_context
from tests.certificates import make_certificates


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def settings(path: Path) -> Config:
    cert, key = path / "server-cert.pem", path / "server-key.pem"
    return Config(tlsverify=True, tlscacert=path / "ca.pem", tlscert=cert, tlskey=key)


def client_context(path: Path, prefix: str | None = "") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(path / "ca.pem"))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # of Python 3.13: our short-lived authority has no key usage
    if prefix is not None:
        context.load_cert_chain(path / f"{prefix}cert.pem", path / f"{prefix}key.pem")
    return context


@contextmanager
def connected(certificates: Path) -> Iterator[tuple[ssl.SSLSocket, socket.socket]]:
    """Yield a client's connection, and what the server has of it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outside = socket.create_connection(listener.getsockname())
        accepted = listener.accept()[0]
    inside, server = socket.socketpair()
    relay = threading.Thread(target=Relay(accepted, inside, server_context(settings(certificates))).run)
    relay.start()
    server.settimeout(10)
    context = client_context(certificates)
    with context.wrap_socket(outside, server_hostname="127.0.0.1", suppress_ragged_eofs=False) as client, server:
        client.settimeout(10)
        yield client, server
    relay.join(10)
    assert not relay.is_alive()


def read_all(connection: socket.socket) -> bytes:
    found = bytearray()
    with suppress(ssl.SSLZeroReturnError):  # how Python tells the end to who has ended himself
        while chunk := connection.recv(1 << 16):
            found += chunk
    return bytes(found)


def half_close(client: ssl.SSLSocket) -> None:
    """Send close_notify, and do not wait for the other side's."""
    client.setblocking(False)
    with pytest.raises(ssl.SSLWantReadError):
        client.unwrap()
    client.settimeout(10)


def test_bytes_pass_both_ways(certificates: Path) -> None:
    with connected(certificates) as (client, server):
        client.sendall(b"question")
        assert server.recv(100) == b"question"
        server.sendall(b"answer")
        assert client.recv(100) == b"answer"


def test_a_client_that_has_ended_still_hears_the_answer(certificates: Path) -> None:
    with connected(certificates) as (client, server):
        client.sendall(b"all of stdin")
        half_close(client)
        assert read_all(server) == b"all of stdin"
        server.sendall(b"late answer")
        server.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"late answer"


def test_all_that_was_said_arrives_before_the_end(certificates: Path) -> None:
    said = os.urandom(3 << 20)
    with connected(certificates) as (client, server):
        threading.Thread(target=lambda: (server.sendall(said), server.close())).start()
        assert read_all(client) == said


def test_much_in_both_directions_at_once_blocks_neither(certificates: Path) -> None:
    """Each side sends more than all buffers hold before it reads."""
    sent = os.urandom(8 << 20)
    with connected(certificates) as (client, server):
        received: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: received.append(read_all(server))),
            threading.Thread(target=server.sendall, args=(sent,)),
        ]
        for thread in threads:
            thread.start()
        client.sendall(sent)  # nothing is read before all of it is sent
        back = bytearray()
        while len(back) < len(sent):
            back += client.recv(1 << 16)
        half_close(client)
        for thread in threads:
            thread.join(10)
        assert bytes(back) == sent
        assert received == [sent]


def test_a_client_that_vanishes_is_gone_for_the_server(certificates: Path) -> None:
    """A hang-up is what cancels jobs (`hangups`): the server's end must show it though nobody reads."""
    with connected(certificates) as (client, server):
        poller = select.poll()
        poller.register(server, select.POLLHUP)
        assert not poller.poll(50)
        os.close(client.detach())  # no close_notify
        assert poller.poll(10_000)


def test_a_server_that_closes_ends_the_client(certificates: Path) -> None:
    with connected(certificates) as (client, server):
        client.sendall(b"unread")
        poller = select.poll()
        poller.register(server, select.POLLIN)
        assert poller.poll(10_000)
        server.close()
        assert client.recv(100) == b""


@pytest.mark.parametrize("prefix", [None, "stranger-"])
def test_a_client_without_a_certificate_of_ours_hears_why_it_is_refused(certificates: Path, prefix: str | None) -> None:
    context = client_context(certificates, prefix)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outside = socket.create_connection(listener.getsockname(), timeout=10)
        given, _ = TlsListener(listener, server_context(settings(certificates))).accept()
        given.settimeout(10)
        with given, context.wrap_socket(outside, server_hostname="127.0.0.1") as client:
            with pytest.raises(ssl.SSLError, match="alert"):
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                client.recv(100)
            assert given.recv(100) == b""  # the server never saw a byte of it


@pytest.mark.parametrize("request_line", [b"GET /_ping HTTP/1.1", b"HEAD /_ping HTTP/1.1", b"POST /build HTTP/1.1"])
def test_who_asks_without_tls_hears_what_is_wrong(certificates: Path, request_line: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        outside = socket.create_connection(listener.getsockname(), 10)
        accepted = listener.accept()[0]
    inside, server = socket.socketpair()
    with outside, server:
        outside.sendall(request_line + b"\r\nHost: a\r\n\r\n")
        relay = threading.Thread(target=Relay(accepted, inside, server_context(settings(certificates))).run)
        relay.start()
        said = read_all(outside)
        assert said == b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
        assert server.recv(1) == b""
        outside.close()
        relay.join(10)


def test_what_is_not_tls_is_refused(certificates: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), timeout=10) as client,
    ):
        given, _ = TlsListener(listener, server_context(settings(certificates))).accept()
        client.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        with given:
            given.settimeout(10)
            assert given.recv(100) == b""
        assert b"SSH" not in client.recv(1000)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"tlscert": Path("/nowhere")}, "tlscert: /nowhere: No such file"),
        ({"tlskey": Path("/nowhere")}, "tlskey: /nowhere: No such file"),
        ({"tlscacert": Path("/nowhere")}, "tlscacert: /nowhere: No such file"),
        ({"tlscacert": Path("/etc/hostname")}, "tlscacert: /etc/hostname: "),
        ({"tlskey": "ca-key.pem"}, "tlscert, tlskey: "),
    ],
)
def test_files_that_do_not_serve_are_named(certificates: Path, others: dict[str, Path], message: str) -> None:
    changed = {name: certificates / path for name, path in others.items()}
    with pytest.raises(ConfigError, match=message):
        server_context(dataclasses.replace(settings(certificates), **changed))
