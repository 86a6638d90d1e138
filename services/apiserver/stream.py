"""Streams: answers whose head is sent before their body is known, and connections taken over from HTTP."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import struct
import termios
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

from flask import Response, request, stream_with_context

from services.apiserver.observing import UPGRADED
from services.apiserver.versions import COMMON_HEADERS, SERVER, api_version

__all__ = [
    "MULTIPLEXED",
    "RAW",
    "Client",
    "await_read",
    "content_type",
    "flushed",
    "take_over",
    "taken_over",
]

log = logging.getLogger("dockyard.apiserver")

RAW = "application/vnd.docker.raw-stream"
LINGER = 2.0  # seconds that a client may take to notice the end
READ_TIMEOUT = 0.2  # seconds that a client may take to read the head
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"


def content_type(*, tty: bool) -> str:
    """Which it is was not told apart before API 1.42."""
    return RAW if tty or api_version() < (1, 42) else MULTIPLEXED


def flushed(body: Iterable[bytes], kind: str = "application/json") -> Response:
    """Answer 200 whose head goes out at once, before the first piece of ``body`` is there."""
    gunicorn_response = request.environ.get("dockyard.response")

    def pieces() -> Iterator[bytes]:
        send_headers: Callable[[], None] | None = getattr(gunicorn_response, "send_headers", None)
        if send_headers is not None:
            send_headers()
        yield from body

    return Response(stream_with_context(pieces()), headers={"Content-Type": kind})


class Client:
    """A connection that HTTP has left: what the client sends, beginning with what was read ahead."""

    def __init__(self, connection: socket.socket, read_ahead: bytes) -> None:
        self.socket = connection
        self.read_ahead = read_ahead

    def finish(self) -> None:
        """Close so that what was sent arrives: a close with unread input would reset the connection."""
        with self.socket:
            try:
                self.socket.shutdown(socket.SHUT_WR)
                self.socket.settimeout(LINGER)
                deadline = time.monotonic() + LINGER
                while time.monotonic() < deadline and self.socket.recv(65536):
                    continue
            except OSError:
                return  # the other side was quicker


def take_over(head: list[str]) -> Client:
    """Answer with the lines of ``head``, and take the present request's connection; gunicorn's goes nowhere.

    gunicorn writes headers of its own and would strip ``Upgrade``: so the answer is written here, the connection
    duplicated, and a dead end put in its place, into which gunicorn's own answer falls.
    """
    original: socket.socket = request.environ["gunicorn.socket"]
    if head[0].startswith("HTTP/1.1 101 "):
        request.environ[UPGRADED] = True
    connection = original.dup()
    dead_end, other = socket.socketpair()
    os.dup2(dead_end.fileno(), original.fileno())
    dead_end.close()
    other.close()
    connection.setblocking(True)
    lines = [*head, *(f"{name}: {value}" for name, value in [("Server", SERVER), *COMMON_HEADERS])]
    try:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        await_read(connection)
    except (BrokenPipeError, ConnectionResetError):
        log.debug("the client of a stream went away before it began")
    reader = getattr(request.environ["wsgi.input"], "reader", None)
    unreader = getattr(reader, "unreader", None)
    return Client(connection, unreader.take_buffered() if unreader is not None else b"")


def await_read(connection: socket.socket, timeout: float = READ_TIMEOUT) -> bool:
    """Wait until the other side has read all that was sent (unix sockets; elsewhere nobody can tell), and say so.

    Clients read a head through a buffer; some (docker-py's) then go on with the bare socket, and what came together
    with the head is lost to them.
    """
    pause, deadline = 0.0001, time.monotonic() + timeout
    while connection.family == socket.AF_UNIX and _unread(connection):
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.01)
    return True


def _unread(connection: socket.socket) -> int:
    """Return the size of what the other side has not read, as the kernel accounts for it (TIOCOUTQ of unix(7))."""
    return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, struct.pack("i", 0)))[0])


@contextmanager
def taken_over(kind: str) -> Iterator[Client]:
    """Yield the client of a connection taken over; at the end it is closed. A client that goes away is no error.

    The answer is 101, or 200 if no upgrade was asked for.
    """
    client = take_over(_head(kind))
    try:
        yield client
    except (BrokenPipeError, ConnectionResetError):
        log.debug("the client of a stream went away")
    finally:
        client.finish()


def _head(kind: str) -> list[str]:
    upgrade = "upgrade" in request.headers.get("Connection", "").lower() and request.headers.get("Upgrade")
    if upgrade:
        return ["HTTP/1.1 101 UPGRADED", f"Content-Type: {kind}", "Connection: Upgrade", f"Upgrade: {upgrade}"]
    return [f"HTTP/1.1 200 {HTTPStatus.OK.phrase}", f"Content-Type: {RAW}"]
