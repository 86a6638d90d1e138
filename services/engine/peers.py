"""Peers: the ROUTER socket on asyncio's loop. Its descriptor is edge-triggered, so it is drained after each event."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import zmq

from shared.bus import sockets
from shared.protocol import Frame

__all__ = ["Credentials", "Peers"]

log = logging.getLogger("dockyard.engine")

NOBLOCK, MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)  # as enums they cost more than what they ask for
TAKEN_AT_ONCE = 64  # messages
REMEMBERED = 4096  # peers whose credentials are kept


@dataclass(frozen=True)
class Credentials:
    """Who is at the other end of a connection, as the kernel saw it connect (unix(7), SO_PEERCRED)."""

    pid: int
    uid: int


class Peers:
    def __init__(self, receive: Callable[[bytes, list[bytes]], None]) -> None:
        self._receive = receive
        self._socket: zmq.Socket[bytes] | None = None
        self._drain_due = False  # under way, or scheduled
        self._credentials: OrderedDict[bytes, Credentials | None] = OrderedDict()

    def bind(self, context: zmq.Context[Any], endpoint: str) -> None:
        socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        sockets.bind(socket, endpoint)
        self._socket = socket
        asyncio.get_running_loop().add_reader(socket.fileno(), self._drain)
        self._schedule_drain()

    def close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close(500)
            self._socket = None

    def credentials(self, peer: bytes) -> Credentials | None:
        """Return who a peer is; None where the kernel does not tell."""
        return self._credentials.get(peer)

    def send(self, peer: bytes, frame: Frame) -> bool:
        """Send a frame; False if the peer is gone or does not read (it is never waited for)."""
        if self._socket is None:
            return False
        try:
            first, *others, last = peer, *frame.parts()
            self._socket.send(first, MORE)
            for part in others:
                self._socket.send(part, MORE)
            self._socket.send(last, NOBLOCK)
        except zmq.ZMQError as error:
            log.debug("peer gone kind=%s name=%s error=%s", frame.kind, frame.header.name, error)
            return False
        finally:
            self._schedule_drain()
        return True

    def _schedule_drain(self) -> None:
        """Sending may consume the edge that announced a message: look again soon."""
        if not self._drain_due:
            self._drain_due = True
            asyncio.get_running_loop().call_soon(self._drain)

    def _drain(self) -> None:
        """Take what has come, and let others have their turn after some of it: there may be no end to it."""
        self._drain_due = True
        try:
            more = all(self._take() for _ in range(TAKEN_AT_ONCE))
        finally:
            self._drain_due = False
        if more:
            self._schedule_drain()

    def _take(self) -> bool:
        """Take one message; False if there is none."""
        if self._socket is None:
            return False
        try:
            identity, *message = sockets.receive(self._socket, NOBLOCK)
        except zmq.Again:
            return False
        peer = identity.bytes
        if message and peer not in self._credentials:
            self._note_credentials(peer, message[0])
        self._receive(peer, [part.bytes for part in message])
        return True

    def _note_credentials(self, peer: bytes, part: zmq.Frame) -> None:
        """Any part tells which connection it came by."""
        self._credentials[peer] = _credentials(part)
        if len(self._credentials) > REMEMBERED:
            self._credentials.popitem(last=False)


def _credentials(message: zmq.Frame) -> Credentials | None:
    try:
        descriptor = int(message.get(zmq.SRCFD))
        with socket.socket(fileno=socket.dup(descriptor)) as connection:
            answer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except (zmq.ZMQError, OSError) as error:
        log.debug("no credentials of a peer error=%s", error)
        return None
    pid, uid, _gid = struct.unpack("3i", answer)
    return Credentials(pid, uid)
