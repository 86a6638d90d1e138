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

from shared.bus.alarm import Alarm
from shared.bus.context import Context, current
from shared.protocol import Header

__all__ = ["client_gone", "while_connected"]


class Hangups:
    """Made once in a process, at the first use."""

    _lock = threading.Lock()
    _instance: Hangups | None = None

    @classmethod
    def here(cls) -> Hangups:
        with cls._lock:
            if cls._instance is None:
                cls._instance = cls()
            return cls._instance

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._events: dict[int, Alarm] = {}
        threading.Thread(target=self._watch, name="hangups", daemon=True).start()

    def _watch(self) -> None:
        while True:
            for descriptor, _ in self._epoll.poll():
                event = self._events.pop(descriptor, None)
                if event is not None:
                    event.set()
                self._forget(descriptor)

    def _forget(self, descriptor: int) -> None:
        try:
            self._epoll.unregister(descriptor)
        except (OSError, ValueError):
            return  # it is closed already

    @contextmanager
    def watch(self, connection: socket.socket) -> Iterator[Alarm]:
        """Yield an alarm that is set when the other side has gone."""
        event = Alarm()
        descriptor = os.dup(connection.fileno())  # ours alone: its number is not used again while we watch
        self._events[descriptor] = event
        self._epoll.register(descriptor, select.EPOLLRDHUP | select.EPOLLHUP)
        try:
            yield event
        finally:
            self._events.pop(descriptor, None)
            self._forget(descriptor)
            os.close(descriptor)
            event.close()


@contextmanager
def client_gone() -> Iterator[Alarm]:
    """Yield an alarm that is set when the present request's client has gone away."""
    connection = request.environ.get("gunicorn.socket")
    if connection is None:  # a test client
        yield Alarm()
        return
    with Hangups.here().watch(connection) as event:
        yield event


@contextmanager
def while_connected() -> Iterator[Alarm]:
    """Cancel the jobs that are called inside when the present request's client goes away."""
    with client_gone() as event:
        token = current.set(Context(Header(), lambda output: None, cancelled=event))
        try:
            yield event
        finally:
            current.reset(token)
