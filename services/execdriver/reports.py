"""Reports: what the engine must hear of, told until it has acknowledged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future

from shared.bus.bus import Bus
from shared.protocol import DockyardError, Job, Unavailable
from shared.runtime.threads import Threads

__all__ = ["Reports"]

RETRY_LIMIT = 5.0  # seconds between two attempts, at most
THREADS = 16
log = logging.getLogger("dockyard.execdriver")


class Reports:
    """One that waits for an engine which is gone does not keep the process from ending: the threads are daemons."""

    def __init__(self, bus: Bus) -> None:
        self._bus, self._threads = bus, Threads("report", THREADS)

    def submit(self, report: Job[None], acknowledged: Callable[[], None] = lambda: None) -> None:
        """Send a report in the background; an engine that is new asks by itself as well (`RuntimeList`)."""
        self._threads.submit(self._send, report, acknowledged).add_done_callback(_log_failure)

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


def _log_failure(sent: Future[None]) -> None:
    if (error := sent.exception()) is not None:
        log.error("report failed", exc_info=error)
