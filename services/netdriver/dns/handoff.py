"""Handoff: the listening sockets inside the containers' namespaces, between the netdriver and the DNS server.

Both hold every socket. So it outlives either: queries that come while the server is restarted wait in the socket, and a
netdriver that is restarted gets back what the server has. On RUN/dns.sock (SOCK_SEQPACKET), where the server listens:

| from → to          | message                                    | descriptors (SCM_RIGHTS) |
|--------------------|--------------------------------------------|--------------------------|
| server → netdriver | ``{"op": "serve", "container": ID}`` each  | UDP, TCP                 |
| server → netdriver | ``{"op": "end"}``: that was all            |                          |
| netdriver → server | ``{"op": "serve", "container": ID}``       | UDP, TCP                 |
| netdriver → server | ``{"op": "drop", "container": ID}``        |                          |
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

__all__ = ["Message", "Pair", "receive", "send", "socket_path"]

SIZE = 4096  # bytes of a message


class Message(msgspec.Struct, frozen=True):
    op: Literal["serve", "drop", "end"]
    container: str = ""


@dataclass(frozen=True, eq=False)
class Pair:
    """The sockets of one container."""

    udp: socket.socket
    tcp: socket.socket

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()


def socket_path(run: Path) -> Path:
    return run / "dns.sock"


def send(connection: socket.socket, message: Message, pair: Pair | None = None) -> None:
    """Raises OSError."""
    descriptors = [pair.udp.fileno(), pair.tcp.fileno()] if pair else []
    socket.send_fds(connection, [msgspec.json.encode(message)], descriptors)


def receive(connection: socket.socket) -> tuple[Message, Pair | None]:
    """Raises OSError; ConnectionError for the end, and for what is no message."""
    data, descriptors, _, _ = socket.recv_fds(connection, SIZE, 2)
    sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    try:
        message = msgspec.json.decode(data, type=Message)
    except msgspec.DecodeError as error:
        for one in sockets:
            one.close()
        raise ConnectionError(f"end of the connection: {error}") from None
    return message, Pair(*sockets) if len(sockets) == 2 else None
