"""WebSocket (RFC 6455) to plain bytes, for those who attach from where there is no other way, as a browser.

A `Bridge` is between the client and one end of a socket pair; whoever serves the other end need not know of it. Each
piece of output is a message of its own; the bytes of all messages that come in are one stream.
"""

from __future__ import annotations

import base64
import codecs
import logging
import select
import socket
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, Ping, TextMessage
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, generate_accept_token

from services.apiserver.stream import Client, take_over
from shared.protocol import InvalidArgument, PermissionDenied

__all__ = ["Bridge", "accept", "bridged"]

CHUNK = 1 << 16  # bytes, as much as waits in each direction
KEY_LENGTH = 16  # bytes (§4.1)
LINGER = 2.0  # seconds in which a client may answer our close
VERSION = "13"
log = logging.getLogger("dockyard.apiserver")


def accept(headers: Mapping[str, str], origins: Collection[str]) -> str:
    """Check the opening handshake (§4.2.1), and return what goes into Sec-WebSocket-Accept.

    A browser sends the origin of the page that asks, and lets any page ask: only pages of this host, and of
    ``origins``, may. Errors: InvalidArgument, PermissionDenied.
    """
    given = {name.lower(): value for name, value in headers.items()}
    if given.get("upgrade", "").lower() != "websocket" or "upgrade" not in given.get("connection", "").lower():
        raise InvalidArgument("not websocket protocol")
    if given.get("sec-websocket-version") != VERSION:
        raise InvalidArgument(f"missing or bad WebSocket Version: {VERSION} is supported")
    key = given.get("sec-websocket-key", "")
    try:
        length = len(base64.b64decode(key, validate=True))
    except ValueError:
        length = 0
    if length != KEY_LENGTH:
        raise InvalidArgument("bad Sec-WebSocket-Key")
    origin = given.get("origin", "")
    if origin and not {"*", origin} & set(origins) and urlsplit(origin).netloc != given.get("host"):
        raise PermissionDenied(f"pages of {origin} may not attach: the setting `cors` names those that may")
    return str(generate_accept_token(key.encode()).decode())


@contextmanager
def bridged(token: str, *, text: bool) -> Iterator[Client]:
    """Take the present request's connection over; yield a client of plain bytes. ``text``: send text messages."""
    head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    outer = take_over([*head, f"Sec-WebSocket-Accept: {token}"])
    inside, given = socket.socketpair()
    bridge = Bridge(outer, inside, text=text)
    thread = threading.Thread(target=bridge.run, name="websocket", daemon=True)
    thread.start()
    client = Client(given, b"")
    try:
        yield client
    except (BrokenPipeError, ConnectionResetError):
        log.debug("the client of a websocket went away")
    finally:
        client.finish()
        thread.join()


class Bridge:
    """Between a client that speaks WebSocket and ``inside``, a server of plain bytes; owns both. For one thread."""

    def __init__(self, client: Client, inside: socket.socket, *, text: bool) -> None:
        self._outside, self._inside = client.socket, inside
        self._protocol = Connection(ConnectionType.SERVER, trailing_data=client.read_ahead)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if text else None
        self._down = b""  # frames on their way to the client
        self._up = b""  # bytes on their way to the server

    def run(self) -> None:
        with self._outside, self._inside:
            try:
                self._take_events()
                self._copy()
                self._finish()
            except (OSError, LocalProtocolError) as error:
                log.debug("websocket lost error=%s", error)

    def _copy(self) -> None:
        """Copy both ways until either side has ended, and all that was said is sent."""
        self._outside.setblocking(False)
        self._inside.setblocking(False)
        while self._down or self._protocol.state is ConnectionState.OPEN:
            ready = self._poll()
            outside, inside = ready.get(self._outside.fileno(), 0), ready.get(self._inside.fileno(), 0)
            if outside & ~select.POLLOUT:
                self._receive()
            if inside & ~select.POLLOUT and not self._down and not self._take_output():
                return
            self._send()

    def _poll(self) -> dict[int, int]:
        """Wait for what can be done: nothing is read in a direction in which something waits to be sent."""
        poller = select.poll()
        poller.register(
            self._outside, (select.POLLOUT if self._down else 0) | (0 if self._up or self._down else select.POLLIN)
        )
        if self._up or not self._down:  # an end of the server's would otherwise be told again and again
            poller.register(self._inside, (select.POLLOUT if self._up else 0) | (0 if self._down else select.POLLIN))
        return dict(poller.poll())

    def _receive(self) -> None:
        data = self._outside.recv(CHUNK)
        if not data:
            raise ConnectionResetError("the client is gone")
        self._protocol.receive_data(data)
        self._take_events()

    def _take_events(self) -> None:
        for event in self._protocol.events():
            if isinstance(event, Message):
                data = event.data
                self._up += data.encode() if isinstance(data, str) else bytes(data)
            elif isinstance(event, Ping):
                self._down += self._protocol.send(event.response())
            elif isinstance(event, CloseConnection):
                self._down += self._protocol.send(_answer(event))
                return

    def _take_output(self) -> bool:
        """Make a message of what the server says; False if it has ended."""
        try:
            data = self._inside.recv(CHUNK)
        except ConnectionResetError:  # it left something unread
            return False
        if not data:
            return False
        message = BytesMessage(data=data) if self._decoder is None else TextMessage(data=self._decoder.decode(data))
        self._down += self._protocol.send(message)
        return True

    def _send(self) -> None:
        with suppress(BlockingIOError):
            if self._down:
                self._down = self._down[self._outside.send(self._down) :]
        try:
            if self._up:
                self._up = self._up[self._inside.send(self._up) :]
        except BlockingIOError:
            return
        except OSError:  # the server reads no more; what it says still counts
            self._up = b""

    def _finish(self) -> None:
        """Close (§7.1.1): say so, wait for the answer, and for what was sent to arrive."""
        deadline = time.monotonic() + LINGER
        self._outside.settimeout(LINGER)
        if self._protocol.state is ConnectionState.OPEN:
            self._outside.sendall(self._protocol.send(CloseConnection(code=CloseReason.NORMAL_CLOSURE)))
        while self._protocol.state is ConnectionState.LOCAL_CLOSING and (left := deadline - time.monotonic()) > 0:
            self._outside.settimeout(left)
            self._protocol.receive_data(self._outside.recv(CHUNK) or None)
            for _ in self._protocol.events():
                continue
        self._outside.shutdown(socket.SHUT_RDWR)


def _answer(close: CloseConnection) -> CloseConnection:
    """Return what is said to a close, or to what is no WebSocket: its own code, if that may be sent (§7.4)."""
    sendable = close.code not in (CloseReason.NO_STATUS_RCVD, CloseReason.ABNORMAL_CLOSURE)
    return CloseConnection(code=close.code if sendable else CloseReason.NORMAL_CLOSURE)
