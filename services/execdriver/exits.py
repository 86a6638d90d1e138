"""Exits: who waits for the monitors, and what becomes of a container when one ends.

A monitor that ends has written the exit status. One that was killed has not: then the container's init is watched
itself, and nobody knows how it ended: that is told as 137, with an error that says so.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from services.execdriver.bundle import LOST_EXIT_CODE, Bundle, Process

__all__ = ["Exits"]

log = logging.getLogger("dockyard.execdriver")

B = TypeVar("B", bound=Bundle)


class Exits(Generic[B]):
    """Watch processes through pidfds in one thread.

    ``on_exit`` (bundle, exit code, time in seconds since the epoch) is called in it and must not block.
    """

    def __init__(self, on_exit: Callable[[B, int, float], None]) -> None:
        self._on_exit = on_exit
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[B, Process]] = {}
        threading.Thread(target=self._run, name="exits", daemon=True).start()

    def watch(self, bundle: B) -> None:
        """Watch a container's monitor; if there is none (any more), its init; if neither, it has ended."""
        process = Process.open(bundle.monitor_pid())
        if process is None:
            self._ended(bundle)
        else:
            self._add(bundle, process)

    def _add(self, bundle: B, process: Process) -> None:
        self._watched[process.pidfd] = (bundle, process)
        self._epoll.register(process.pidfd, select.EPOLLIN)

    def _run(self) -> None:
        while True:
            for pidfd, _ in self._epoll.poll():
                bundle, _ = self._watched.pop(pidfd)
                self._epoll.unregister(pidfd)
                os.close(pidfd)
                try:
                    self._ended(bundle)
                except Exception:
                    log.exception("exit not handled id=%s", bundle.id)

    def _ended(self, bundle: B) -> None:
        known = bundle.exit()
        if known is not None:
            self._on_exit(bundle, *known)
            return
        init = bundle.init()
        if init is not None:
            log.warning("monitor lost, watching its process id=%s pid=%d", bundle.id, init.pid)
            self._add(bundle, init)
            return
        if not bundle.directory.exists():
            return  # deleted meanwhile: nobody asks
        log.warning("exit status lost id=%s", bundle.id)
        bundle.lose_exit()
        self._on_exit(bundle, LOST_EXIT_CODE, time.time())
