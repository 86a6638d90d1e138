"""Hang-ups: who waits for something on behalf of a client stops when the client goes.

One thread watches the connections of all requests that wait; a job called inside `while_connected` is cancelled.
"""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import request

from shared.bus.context import Context, current
from shared.protocol import Header

__all__ = ["Hangups", "connection", "while_connected"]


class Hangups:
    """Made once in a process, at the first use (after gunicorn has forked)."""

    _one = threading.Lock()
    _instance: Hangups | None = None

    @classmethod
    def here(cls) -> Hangups:
        with cls._one:
            if cls._instance is None:
                cls._instance = cls()
            return cls._instance

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._events: dict[int, threading.Event] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, name="hangups", daemon=True).start()

    def _watch(self) -> None:
        while True:
            for descriptor, _ in self._epoll.poll():
                with self._lock:
                    # the number may stand for another connection by now, one that is still there
                    if descriptor in self._events and _has_hung_up(descriptor):
                        self._events[descriptor].set()
                        self._epoll.unregister(descriptor)
                        del self._events[descriptor]

    @contextmanager
    def watch(self, client: socket.socket) -> Iterator[threading.Event]:
        """Yield an event that is set when the other side has gone."""
        event = threading.Event()
        descriptor = os.dup(client.fileno())  # ours alone: gunicorn may close its own while we watch
        with self._lock:
            self._events[descriptor] = event
            self._epoll.register(descriptor, select.EPOLLRDHUP)
        try:
            yield event
        finally:
            with self._lock:
                if self._events.pop(descriptor, None) is not None:
                    self._epoll.unregister(descriptor)
                os.close(descriptor)


def _has_hung_up(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLRDHUP)
    return bool(poller.poll(0))


def connection() -> socket.socket | None:
    """Return the connection of the present request; a test client has none."""
    found: socket.socket | None = request.environ.get("gunicorn.socket")
    return found


@contextmanager
def while_connected() -> Iterator[threading.Event]:
    """Cancel the jobs that are called inside when the request's client goes away, or nobody wants the answer more.

    Yields the event of it.
    """
    context = Context(Header(), lambda output: None)
    token = current.set(context)
    client = connection()
    try:
        if client is None:
            yield context.cancelled
            return
        with Hangups.here().watch(client) as context.cancelled:
            yield context.cancelled
    finally:
        context.cancelled.set()
        current.reset(token)
