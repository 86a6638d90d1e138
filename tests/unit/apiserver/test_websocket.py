"""Between a WebSocket and plain bytes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from services.apiserver.stream import Client
from services.apiserver.websocket import Bridge, accept
from shared.protocol import DockyardError, InvalidArgument, PermissionDenied

HANDSHAKE = {
    "Host": "localhost:2375", "Upgrade": "websocket", "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip


class Pair:
    """A WebSocket client, and the server of plain bytes behind a bridge."""

    def __init__(self, *, text: bool = False, read_ahead: bytes = b"") -> None:
        self.client, outside = socket.socketpair()
        inside, self.server = socket.socketpair()
        self.client.settimeout(5)
        self.server.settimeout(5)
        self.protocol = Connection(ConnectionType.CLIENT)
        self.thread = threading.Thread(target=Bridge(Client(outside, read_ahead), inside, text=text).run)
        self.thread.start()

    def say(self, event: Event) -> None:
        self.client.sendall(self.protocol.send(event))

    def heard(self) -> Iterator[Any]:
        """Yield what comes, to the end of the connection."""
        while data := self.client.recv(65536):
            self.protocol.receive_data(data)
            yield from self.protocol.events()

    def received(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            data += self.server.recv(65536)
        return data

    def close(self) -> None:
        self.client.close()
        self.server.close()
        self.thread.join(5)
        assert not self.thread.is_alive()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def test_the_sample_handshake_of_the_rfc() -> None:
    assert accept(HANDSHAKE, ()) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    "wrong",
    [
        {"Upgrade": "tcp"}, {"Connection": "close"}, {"Sec-WebSocket-Version": "8"}, {"Sec-WebSocket-Key": "short"},
        {"Sec-WebSocket-Key": "ä"}, {"Sec-WebSocket-Key": ""},
    ],
)  # fmt: skip
def test_what_is_no_handshake(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        accept({**HANDSHAKE, **wrong}, ())


def test_pages_of_other_hosts_may_not() -> None:
    foreign = {**HANDSHAKE, "Origin": "https://example.com"}
    with pytest.raises(PermissionDenied):
        accept(foreign, ["https://example.org"])
    for headers, origins in (
        (foreign, ["https://example.com"]), (foreign, ["*"]), ({**HANDSHAKE, "Origin": "http://localhost:2375"}, []),
    ):  # fmt: skip
        assert accept(headers, origins)


def test_messages_of_any_kind_become_bytes(pair: Pair) -> None:
    pair.say(BytesMessage(data=b"one", message_finished=False))
    pair.say(Ping(payload=b"in between"))
    pair.say(BytesMessage(data=b" two"))
    pair.say(TextMessage(data=" thr\u00e9e"))
    assert pair.received(14) == "one two thr\u00e9e".encode()
    pong = next(pair.heard())
    assert isinstance(pong, Pong)
    assert pong.payload == b"in between"


def test_output_becomes_binary_messages_and_its_end_a_close(pair: Pair) -> None:
    pair.server.sendall(b"\x00\xff raw")
    heard = pair.heard()
    message = next(heard)
    assert (type(message), bytes(message.data)) == (BytesMessage, b"\x00\xff raw")
    pair.server.shutdown(socket.SHUT_WR)
    closing = next(heard)
    assert isinstance(closing, CloseConnection)
    assert closing.code == 1000
    pair.say(closing.response())
    assert list(heard) == []


def test_text_for_those_who_want_it() -> None:
    pair = Pair(text=True)
    for piece in ("\u00e9".encode()[:1], "\u00e9".encode()[1:] + b"\xff"):
        pair.server.sendall(piece)
    said = ""
    for event in pair.heard():
        assert isinstance(event, TextMessage)
        said += event.data
        if len(said) == 2:
            break
    assert said == "\u00e9\ufffd"
    pair.close()


def test_a_close_is_answered_and_ends_the_servers_side(pair: Pair) -> None:
    pair.say(CloseConnection(code=1001))
    answer = next(pair.heard())
    assert isinstance(answer, CloseConnection)
    assert answer.code == 1001
    assert pair.server.recv(1) == b""


def test_what_came_with_the_handshake_is_not_lost() -> None:
    protocol = Connection(ConnectionType.CLIENT)
    pair = Pair(read_ahead=protocol.send(BytesMessage(data=b"early")))
    assert pair.received(5) == b"early"
    pair.close()


def test_large_streams_both_ways_at_once(pair: Pair) -> None:
    size = 2_000_000
    echo = threading.Thread(target=lambda: pair.server.sendall(pair.received(size)))
    echo.start()
    message = BytesMessage(data=b"x" * 10_000)
    feeder = threading.Thread(target=lambda: [pair.say(message) for _ in range(size // 10_000)])
    feeder.start()
    came = 0
    for event in pair.heard():
        came += len(event.data)
        if came == size:
            break
    feeder.join()
    echo.join()


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_noise_ends_in_a_close_or_goes_on(noise: bytes) -> None:
    pair = Pair()
    pair.client.sendall(noise)
    pair.client.shutdown(socket.SHUT_WR)
    while pair.client.recv(65536):
        continue
    pair.close()


@given(st.dictionaries(st.sampled_from(sorted(HANDSHAKE)), st.text(max_size=30)))
def test_a_handshake_is_accepted_or_refused(headers: dict[str, str]) -> None:
    try:
        assert accept({**HANDSHAKE, **headers}, ())
    except DockyardError:
        return
