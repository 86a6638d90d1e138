"""Attachments: connections to a container's monitor, handed on as descriptors (SCM_RIGHTS).

Who asks before the process exists waits; `release` connects all who wait, before the process runs, so that none of
its output is missed. Once handed over, a connection needs us no more.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
from collections import defaultdict

from services.execdriver import monitor
from services.execdriver.bundle import Bundle

__all__ = ["Attachments", "hand_over"]

log = logging.getLogger("dockyard.execdriver")


class Attachments:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, Bundle] = {}  # containers whose monitor takes connections
        self._waiting: defaultdict[str, list[socket.socket]] = defaultdict(list)

    def serve(self, container: str, connection: socket.socket) -> None:
        """Hand over a connection now or when the container starts; returns when the other side has closed,
        or at once if there is nothing to connect to: the monitor was lost."""
        with self._lock:
            bundle = self._open.get(container)
            if bundle is None or not hand_over(bundle, connection):
                if bundle is not None and not bundle.monitor_pid() and bundle.exit() is None:
                    return  # it was killed: nobody will ever connect to this process
                self._waiting[container].append(connection)
        _await_close(connection)
        with self._lock:
            if connection in self._waiting[container]:
                self._waiting[container].remove(connection)
            if not self._waiting[container]:
                del self._waiting[container]

    def release(self, bundle: Bundle) -> None:
        """The monitor is there, the process does not run yet: connect those who wait, and whoever comes later."""
        with self._lock:
            self._open[bundle.container] = bundle
            waiting = self._waiting.pop(bundle.container, [])
            before = monitor.count_sockets(bundle) if waiting else 0
            handed = sum(hand_over(bundle, connection) for connection in waiting)
        if handed:
            monitor.await_sockets(bundle, before + handed)

    def end(self, container: str) -> None:
        """The monitor is gone: who asks from now on waits for the next start."""
        with self._lock:
            self._open.pop(container, None)


def hand_over(bundle: Bundle, connection: socket.socket) -> bool:
    """Give the asker a connection to the monitor; False if it takes none (it is about to end)."""
    try:
        stream = monitor.connect(bundle)
    except OSError as error:
        log.info("not attached id=%s error=%s", bundle.id, error)
        return False
    with stream:
        try:
            socket.send_fds(connection, [b"A"], [stream.fileno()])
        except OSError as error:
            log.debug("the asker is gone id=%s error=%s", bundle.id, error)
    return True


def _await_close(connection: socket.socket) -> None:
    poller = select.poll()
    poller.register(connection, select.POLLIN | select.POLLRDHUP)
    poller.poll()
