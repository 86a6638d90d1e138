"""Reports: what the engine must hear of, told until it has acknowledged."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from shared.bus.bus import Bus
from shared.protocol import DockyardError, Job, Unavailable

__all__ = ["Reports"]

RETRY_LIMIT = 5.0  # seconds between two attempts, at most
THREADS = 16
log = logging.getLogger("dockyard.execdriver")


class Reports:
    """Its threads are daemons: one that waits for an engine which is gone does not keep the process from ending."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._waiting: SimpleQueue[tuple[Job[None], Callable[[], None]]] = SimpleQueue()
        self._threads = 0

    def submit(self, report: Job[None], acknowledged: Callable[[], None] = lambda: None) -> None:
        """Send a report in the background; an engine that is new asks by itself as well (`RuntimeList`)."""
        self._waiting.put((report, acknowledged))
        if self._threads < THREADS:
            self._threads += 1
            threading.Thread(target=self._work, name="report", daemon=True).start()

    def _work(self) -> None:
        while True:
            report, acknowledged = self._waiting.get()
            try:
                self._send(report, acknowledged)
            except Exception:
                log.exception("report failed report=%s", report)

    def _send(self, report: Job[None], acknowledged: Callable[[], None]) -> None:
        delay = 0.05
        while True:
            try:
                self._bus.call(report)
                break
            except Unavailable as error:
                log.info("not acknowledged yet report=%s error=%s", report, error)
            except DockyardError as error:
                log.error("report refused report=%s error=%s", report, error)
                return
            time.sleep(delay)
            delay = min(delay * 2, RETRY_LIMIT)
        acknowledged()
