"""Intake: bytes that a job's caller sends, as a stream that its handler reads."""

from __future__ import annotations

import io
import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from shared.bus.context import check_cancelled, emit
from shared.bus.tickets import TicketServer
from shared.protocol import TICKET_LIFETIME, Unavailable, encode_body

__all__ = ["incoming"]

CHUNK = 1 << 20
POLL_INTERVAL = 0.2  # seconds between two looks at whether the job was cancelled


@contextmanager
def incoming(tickets: TicketServer) -> Iterator[IO[bytes]]:
    """Have the job's caller send something (STATUS stream ``ticket``); yields what it sends, once it has come.

    Errors, of reading too: Unavailable (nobody came, or the sender went away before all was sent), Cancelled.
    """
    arrived: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
    done = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.settimeout(POLL_INTERVAL)
        arrived.put(connection)
        done.wait()

    emit(encode_body(tickets.issue(serve)).decode(), stream="ticket")
    try:
        yield cast("IO[bytes]", io.BufferedReader(_Sent(_await(arrived)), CHUNK))
    finally:
        done.set()


def _await(arrived: queue.SimpleQueue[socket.socket]) -> socket.socket:
    deadline = time.monotonic() + TICKET_LIFETIME
    while time.monotonic() < deadline:
        check_cancelled()
        try:
            return arrived.get(timeout=POLL_INTERVAL)
        except queue.Empty:
            continue
    raise Unavailable("nobody came to send")


class _Sent(io.RawIOBase):
    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        while True:
            check_cancelled()
            try:
                return self._connection.recv_into(buffer)  # type: ignore[arg-type]
            except TimeoutError:
                continue
            except ConnectionResetError as error:
                raise Unavailable("the sender went away before all was sent") from error
