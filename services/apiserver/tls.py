"""TLS: connections are decrypted before gunicorn sees them, so that whatever has a connection has a plain descriptor.

A hijacked connection is duplicated, polled and half-closed (`stream`, `attach`, `hangups`); TLS allows none of that. So
each accepted connection gets a `Relay`, in a thread, between the client and one end of a socket pair, and gunicorn gets
the other end.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
import threading
import time
from contextlib import suppress
from typing import Any

__all__ = ["Peer", "Relay", "TlsListener", "common_name"]

HANDSHAKE_TIMEOUT = 10.0  # seconds
LINGER = 2.0  # seconds that a client may take to notice the end
CHUNK = 1 << 16  # bytes, as much as waits in each direction
PLAIN_REQUEST = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"  # as Go's says
GONE = select.POLLHUP | select.POLLERR
log = logging.getLogger("dockyard.apiserver")


class Peer(tuple[Any, ...]):
    """A client's address, as accept(2) gives it; and, when hands have been shaken, its certificate's common name."""

    name = ""

    def __str__(self) -> str:
        where = f"[{self[0]}]:{self[1]}" if ":" in self[0] else f"{self[0]}:{self[1]}"
        return f"CN={self.name} {where}" if self.name else where


class TlsListener:
    """A listening socket that gives connections decrypted."""

    def __init__(self, listener: Any, context: ssl.SSLContext) -> None:
        self._listener, self._context = listener, context

    def accept(self) -> tuple[socket.socket, Any]:
        """Return a socket of plain bytes and the client's address; errors of TLS close the connection."""
        outside, where = self._listener.accept()
        address = Peer(where)
        try:
            inside, given = socket.socketpair()
        except OSError:
            outside.close()
            raise
        relay = Relay(outside, inside, self._context)
        threading.Thread(target=relay.run, args=(address,), name="tls", daemon=True).start()
        return given, address

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)


def common_name(certificate: Any) -> str:
    """Return the common name of a verified certificate; empty without one."""
    for names in (certificate or {}).get("subject", ()):
        for key, value in names:
            if key == "commonName":
                return str(value)
    return ""


class Relay:
    """Between a client (``outside``, TLS) and a server of plain bytes (``inside``); owns both. For one thread.

    Either side may end its half: the client by close_notify, the server by a shutdown. When the server has ended, all
    that it said is delivered, and no more is read.
    """

    def __init__(self, outside: socket.socket, inside: socket.socket, context: ssl.SSLContext) -> None:
        self._outside, self._inside = outside, inside
        self._received, self._produced = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._produced, server_side=True)
        self._down = b""  # ciphertext on its way to the client
        self._up = b""  # plain text on its way to the server
        self._client_ended = False

    def run(self, address: Any = "") -> None:
        """Serve; ``address`` is for the log, and a `Peer` is told its name."""
        with self._outside, self._inside:
            self._outside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                self._shake_hands()
            except OSError as error:
                log.info("tls handshake failed client=%s error=%s", address, error)
                self._inside.close()
                if isinstance(error, ssl.SSLError) and error.reason == "HTTP_REQUEST":
                    self._down = PLAIN_REQUEST
                with suppress(OSError):
                    self._drain()  # the alert says why
                return
            if isinstance(address, Peer):
                address.name = common_name(self._tls.getpeercert())
            try:
                self._copy()
                self._finish()
            except OSError as error:
                log.debug("tls connection lost client=%s error=%s", address, error)

    def _shake_hands(self) -> None:
        deadline = time.monotonic() + HANDSHAKE_TIMEOUT
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush(deadline)
                self._outside.settimeout(max(0.001, deadline - time.monotonic()))
                self._feed(self._outside.recv(CHUNK))
            else:
                self._flush(deadline)
                return

    def _flush(self, deadline: float) -> None:
        self._outside.settimeout(max(0.001, deadline - time.monotonic()))
        self._outside.sendall(self._down + self._produced.read())
        self._down = b""

    def _feed(self, data: bytes) -> None:
        """An end without close_notify is an error of the next read: somebody else may have cut the connection."""
        self._received.write(data) if data else self._received.write_eof()

    def _copy(self) -> None:
        """Copy both ways until the server has ended and all it said is sent. Raises OSError if the client is gone."""
        self._outside.setblocking(False)
        self._inside.setblocking(False)
        self._decrypt()  # what came with the end of the handshake
        while True:
            ready = self._poll()
            outside, inside = ready.get(self._outside.fileno(), 0), ready.get(self._inside.fileno(), 0)
            if outside & GONE:
                raise ConnectionResetError("the client is gone")
            if outside & select.POLLIN:
                self._feed(self._outside.recv(CHUNK))
                self._decrypt()
            if inside & (select.POLLIN | GONE) and not self._down and not self._encrypt():
                return
            if self._up:
                self._send_up()
            if self._down:
                self._send_down()

    def _poll(self) -> dict[int, int]:
        """Wait for what can be done: nothing is read in a direction in which something waits to be sent."""
        poller = select.poll()
        reading = select.POLLIN if not self._up and not self._client_ended else 0
        poller.register(self._outside, reading | (select.POLLOUT if self._down else 0))
        if self._up or not self._down:  # an end of the server's would otherwise be told again and again
            poller.register(self._inside, (select.POLLOUT if self._up else 0) | (0 if self._down else select.POLLIN))
        return dict(poller.poll())

    def _decrypt(self) -> None:
        while not self._client_ended:
            try:
                data = self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                break
            self._up += data
            self._client_ended = not data
        self._down += self._produced.read()  # TLS may have to say something of its own
        if self._client_ended and not self._up:
            self._inside.shutdown(socket.SHUT_WR)

    def _encrypt(self) -> bool:
        """Take what the server said; False if it has ended (a reset: and left something unread)."""
        try:
            data = self._inside.recv(CHUNK)
        except ConnectionResetError:
            return False
        if data:
            self._tls.write(data)
            self._down += self._produced.read()
        return bool(data)

    def _send_up(self) -> None:
        try:
            self._up = self._up[self._inside.send(self._up) :]
        except BlockingIOError:
            return
        except OSError:  # the server reads no more; what it says still counts
            self._up, self._client_ended = b"", True
            return
        if self._client_ended and not self._up:
            self._inside.shutdown(socket.SHUT_WR)

    def _send_down(self) -> None:
        try:
            self._down = self._down[self._outside.send(self._down) :]
        except BlockingIOError:
            return

    def _finish(self) -> None:
        """Say close_notify; the client's own is not waited for."""
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        self._drain()

    def _drain(self) -> None:
        """Send what there is, and end so that it arrives: a close with unread input would reset the connection."""
        deadline = time.monotonic() + LINGER
        self._flush(deadline)
        self._outside.shutdown(socket.SHUT_WR)
        while (left := deadline - time.monotonic()) > 0:
            self._outside.settimeout(left)
            if not self._outside.recv(CHUNK):
                return
