"""Exits: who waits for the monitors, and what becomes of a container when one ends.

A monitor that ends has written the exit status. One that was killed has not: then the container's init is watched
itself, and its status is unknown (255).
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable

from services.execdriver.bundle import Bundle, Process

__all__ = ["Exits"]

UNKNOWN_EXIT_CODE = 255
log = logging.getLogger("dockyard.execdriver")

OnExit = Callable[[Bundle, int, float], None]  # bundle, exit code, time


class Exits:
    """Watch processes through pidfds in one thread; ``on_exit`` is called in it and must not block."""

    def __init__(self, on_exit: OnExit) -> None:
        self._on_exit = on_exit
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[Bundle, Process]] = {}
        threading.Thread(target=self._run, name="exits", daemon=True).start()

    def watch(self, bundle: Bundle) -> None:
        """Watch a container's monitor; if there is none (any more), its init; if neither, it has ended."""
        process = Process.open(bundle.monitor_pid())
        if process is None:
            self._ended(bundle)
        else:
            self._add(bundle, process)

    def _add(self, bundle: Bundle, process: Process) -> None:
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
                    log.exception("exit not handled container=%s", bundle.container)

    def _ended(self, bundle: Bundle) -> None:
        known = bundle.exit()
        if known is not None:
            self._on_exit(bundle, *known)
            return
        init = bundle.init()
        if init is not None:
            log.warning("monitor lost, watching init container=%s pid=%d", bundle.container, init.pid)
            self._add(bundle, init)
            return
        if not bundle.directory.exists():
            return  # deleted meanwhile: nobody asks
        log.warning("exit status lost container=%s", bundle.container)
        bundle.exit_file.write_text(str(UNKNOWN_EXIT_CODE))
        self._on_exit(bundle, UNKNOWN_EXIT_CODE, time.time())
