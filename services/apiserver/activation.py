"""The apiserver's own jobs: the engine says when requests may be answered."""

from __future__ import annotations

import logging
import threading

from shared.bus.handlers import Handlers
from shared.protocol import AcceptConnections, ServeApi

__all__ = ["Latch", "jobs"]

Latch = threading.Event
jobs: Handlers[Latch] = Handlers()
log = logging.getLogger("dockyard.apiserver")


@jobs.handles(ServeApi)
def serve_api(latch: Latch, job: ServeApi) -> None:
    log.info("serving hosts=%s", ",".join(job.hosts))


@jobs.handles(AcceptConnections)
def accept_connections(latch: Latch, job: AcceptConnections) -> None:
    """A latch, not an edge: it stays open, whoever comes first."""
    latch.set()
