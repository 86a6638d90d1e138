"""Reports: what the engine must hear of, told until it has acknowledged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from shared.bus.bus import Bus
from shared.protocol import DockyardError, Job, Unavailable

__all__ = ["Reports"]

RETRY_LIMIT = 5.0  # seconds between two attempts, at most
log = logging.getLogger("dockyard.execdriver")


class Reports:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="report")

    def submit(self, report: Job[None], acknowledged: Callable[[], None] = lambda: None) -> None:
        """Send a report in the background; an engine that is new asks by itself as well (`RuntimeList`)."""
        self._pool.submit(self._send, report, acknowledged)

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
