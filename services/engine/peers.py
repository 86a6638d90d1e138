"""Peers: the ROUTER socket on asyncio's loop. Its descriptor is edge-triggered, so it is drained after each event."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import zmq

from shared.bus import sockets
from shared.protocol import Frame

__all__ = ["Peers"]

log = logging.getLogger("dockyard.engine")


class Peers:
    def __init__(self, receive: Callable[[bytes, list[bytes]], None]) -> None:
        self._receive = receive
        self._socket: zmq.Socket[bytes] | None = None
        self._drain_scheduled = False

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

    def send(self, peer: bytes, frame: Frame) -> bool:
        """Send a frame; False if the peer is gone or does not read (it is never waited for)."""
        if self._socket is None:
            return False
        try:
            self._socket.send_multipart([peer, *frame.parts()], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            log.debug("peer gone kind=%s name=%s error=%s", frame.kind, frame.header.name, error)
            return False
        finally:
            self._schedule_drain()
        return True

    def _schedule_drain(self) -> None:
        """Sending may consume the edge that announced a message: look again soon."""
        if not self._drain_scheduled:
            self._drain_scheduled = True
            asyncio.get_running_loop().call_soon(self._drain)

    def _drain(self) -> None:
        self._drain_scheduled = False
        while self._socket is not None:
            try:
                peer, *parts = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._receive(peer, parts)
