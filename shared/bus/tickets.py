"""Tickets: the server that a driver opens for its bulk bytes, and how a holder redeems one.

A stream of which a part is worse than nothing (an archive) is *whole*: the side that sends it leaves one byte that it
was sent unread until all is written. If it goes away before that, be it by SIGKILL, the kernel gives the other side
ECONNRESET in place of an end (unix(7): a socket closed with unread data).

| who sends the stream       | the byte                                                                      |
|----------------------------|-------------------------------------------------------------------------------|
| the server (``issue``)     | the newline after the token                                                   |
| the holder (`deliver`)     | a newline that the server sends, since a plus stood in the place of the other |
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from shared.protocol import TICKET_LIFETIME, Ticket, Unavailable

__all__ = ["TicketServer", "deliver", "receive_descriptor", "redeem", "redeem_descriptor"]

TOKEN_LENGTH = 32  # hex digits
HANDOVER_TIMEOUT, RETRY_DELAY = 10.0, 0.1  # seconds
WHOLE = b"+"
Serve = Callable[[socket.socket], None]
log = logging.getLogger("dockyard.tickets")


class TicketServer:
    """Listen on ``path`` (0600) and hand each connection to the function its token was issued for.

    The function runs in a thread of its own and owns the connection; it is closed when the function returns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._issued: dict[str, tuple[float, Serve, bool]] = {}
        self._lock = threading.Lock()
        self._closed = False
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(mask)
        self._listener.listen(128)
        threading.Thread(target=self._accept, name="tickets", daemon=True).start()

    def issue(self, serve: Serve, *, whole: bool = False) -> Ticket:
        """Make a ticket. ``whole``: ``serve`` writes; what it writes before it fails, or dies, has no end."""
        token = secrets.token_hex(TOKEN_LENGTH // 2)
        now = time.monotonic()
        with self._lock:
            self._issued = {t: entry for t, entry in self._issued.items() if entry[0] > now}
            self._issued[token] = (now + TICKET_LIFETIME, serve, whole)
        return Ticket(path=str(self.path), token=token)

    def close(self) -> None:
        """Take no more connections; those that are served go on."""
        self._closed = True
        self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits for one

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if not self._closed:  # no descriptor is free, say
                    log.error("connection not accepted error=%s", error)
                    time.sleep(RETRY_DELAY)
                continue
            threading.Thread(target=self._serve, args=(connection,), name="ticket", daemon=True).start()
        self._listener.close()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(TICKET_LIFETIME)
            token = connection.recv(TOKEN_LENGTH, socket.MSG_WAITALL).decode("ascii", "replace")
            with self._lock:
                expires, serve, whole = self._issued.pop(token, (0.0, None, False))
            if serve is None or expires < time.monotonic():
                log.warning("ticket refused")
                return
            try:
                if not whole and connection.recv(1) == WHOLE:
                    connection.sendall(b"\n")
                connection.settimeout(None)
                serve(connection)
                if whole:
                    connection.recv(1)
            except (BrokenPipeError, ConnectionResetError):
                log.debug("ticket holder went away")
            except Exception:
                log.exception("stream failed")


def redeem(ticket: Ticket, mark: bytes = b"\n") -> socket.socket:
    """Connect to where a ticket points; the caller owns the connection. Raises Unavailable."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(ticket.path)
        connection.sendall(ticket.token.encode() + mark)
    except OSError as error:
        connection.close()
        raise Unavailable(f"the stream is gone: {error}") from error
    return connection


def redeem_descriptor(ticket: Ticket) -> socket.socket:
    """Redeem a ticket that delivers a connection which is there already. Raises Unavailable."""
    with redeem(ticket) as connection:
        connection.settimeout(HANDOVER_TIMEOUT)
        try:
            return receive_descriptor(connection)
        except OSError as error:
            raise Unavailable(f"the session is gone: {error}") from error


def receive_descriptor(connection: socket.socket) -> socket.socket:
    """Receive the socket that a ticket delivers by SCM_RIGHTS. Raises OSError (whoever had it went away)."""
    data, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
    if not data or not descriptors:
        raise ConnectionResetError("the sender went away")
    return socket.socket(fileno=descriptors[0])


def deliver(ticket: Ticket, chunks: Iterable[bytes]) -> None:
    """Send a whole to where a ticket points. Errors: Unavailable, OSError, and what ``chunks`` raises."""
    with redeem(ticket, WHOLE) as connection:
        if not connection.recv(1, socket.MSG_PEEK):
            raise Unavailable("the stream is gone: the ticket was refused")
        for chunk in chunks:
            connection.sendall(chunk)
        connection.recv(1)
