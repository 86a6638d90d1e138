"""Tickets: the server that a driver opens for its bulk bytes, and how a holder redeems one."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from shared.protocol import TICKET_LIFETIME, Ticket, Unavailable

__all__ = ["TicketServer", "receive_descriptor", "redeem", "redeem_descriptor"]

TOKEN_LENGTH = 32  # hex digits
HANDOVER_TIMEOUT = 10.0  # seconds
Serve = Callable[[socket.socket], None]
log = logging.getLogger("dockyard.tickets")


class TicketServer:
    """Listen on ``path`` (0600) and hand each connection to the function its token was issued for.

    The function runs in a thread of its own and owns the connection; it is closed when the function returns.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._issued: dict[str, tuple[float, Serve]] = {}
        self._lock = threading.Lock()
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(mask)
        self._listener.listen(128)
        threading.Thread(target=self._accept, name="tickets", daemon=True).start()

    def issue(self, serve: Serve) -> Ticket:
        token = secrets.token_hex(TOKEN_LENGTH // 2)
        now = time.monotonic()
        with self._lock:
            self._issued = {t: entry for t, entry in self._issued.items() if entry[0] > now}
            self._issued[token] = (now + TICKET_LIFETIME, serve)
        return Ticket(path=str(self.path), token=token)

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._serve, args=(connection,), name="ticket", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(TICKET_LIFETIME)
            token = connection.recv(TOKEN_LENGTH + 1, socket.MSG_WAITALL)[:TOKEN_LENGTH].decode("ascii", "replace")
            with self._lock:
                expires, serve = self._issued.pop(token, (0.0, None))
            if serve is None or expires < time.monotonic():
                log.warning("ticket refused")
                return
            connection.settimeout(None)
            try:
                serve(connection)
            except (BrokenPipeError, ConnectionResetError):
                log.debug("ticket holder went away")
            except Exception:
                log.exception("stream failed")


def redeem(ticket: Ticket) -> socket.socket:
    """Connect to where a ticket points; the caller owns the connection. Raises Unavailable."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(ticket.path)
        connection.sendall(f"{ticket.token}\n".encode())
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
