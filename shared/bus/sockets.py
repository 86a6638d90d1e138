"""How every ZeroMQ socket of dockyard is made: bounded messages, no lingering, owner-only paths."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import zmq

from shared.protocol import MAX_MESSAGE_SIZE, Frame

__all__ = [
    "bind",
    "dealer",
    "engine_endpoint",
    "events_endpoint",
    "reader_endpoint",
    "receive",
    "receive_frame",
    "zmq_context",
]


MAX_SOCKETS = 16384  # of a process; each of its threads that calls jobs has one


def zmq_context() -> zmq.Context[Any]:
    """Return the process's one context."""
    made: zmq.Context[Any] = zmq.Context.instance()
    made.set(zmq.MAX_SOCKETS, MAX_SOCKETS)  # counts if it comes before the first socket
    return made


def engine_endpoint(run: Path) -> str:
    return f"ipc://{run}/engine.sock"


def events_endpoint(run: Path) -> str:
    return f"ipc://{run}/events.sock"


def reader_endpoint(run: Path) -> str:
    return f"ipc://{run}/reader.sock"


def prepare(socket: zmq.Socket[Any]) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_SIZE)
    socket.setsockopt(zmq.RECONNECT_IVL, 20)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 200)


def dealer(context: zmq.Context[Any], endpoint: str) -> zmq.Socket[bytes]:
    """Connect a DEALER; messages wait in it while the engine is away."""
    socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    prepare(socket)
    socket.connect(endpoint)
    return socket


def receive(socket: zmq.Socket[bytes], flags: int = 0) -> list[zmq.Frame]:
    """Receive the parts of a message. Errors: zmq.Again (with NOBLOCK, and there is none).

    Each part says whether more follow. The socket would have to be asked, which costs more than to receive.
    """
    parts = [socket.recv(flags, copy=False)]
    while parts[-1].more:
        parts.append(socket.recv(flags, copy=False))
    return parts


def receive_frame(socket: zmq.Socket[bytes], flags: int = 0) -> Frame:
    """Receive a message, and parse it. Errors: InvalidArgument; zmq.Again (there is none, and none is waited for)."""
    return Frame.parse([part.bytes for part in receive(socket, flags)])


def bind(socket: zmq.Socket[Any], endpoint: str) -> None:
    """Bind to an ipc endpoint whose path only root may use (mode 0600)."""
    prepare(socket)
    mask = os.umask(0o177)
    try:
        socket.bind(endpoint)
    finally:
        os.umask(mask)
