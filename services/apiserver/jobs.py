"""Jobs: how a route calls its one job. Jobs that only read are asked again while the engine is being restarted."""

from __future__ import annotations

import time
from typing import Any, TypeVar

import msgspec
from flask import Response, current_app

from shared.bus.bus import Bus, OnStatus
from shared.protocol import Job, Unavailable

__all__ = ["RETRY_TIME", "bus", "call", "read", "show"]

R = TypeVar("R")
RETRY_TIME = 10.0  # seconds


def bus() -> Bus:
    made: Bus = current_app.extensions["dockyard.bus"]
    return made


def call(job: Job[R], *, timeout: float | None = 120.0, on_status: OnStatus | None = None) -> R:
    """Call a job that changes something: once."""
    return bus().call(job, timeout=timeout, on_status=on_status)


def read(job: Job[R], *, timeout: float = RETRY_TIME) -> R:
    """Call a job that only reads; while nobody answers, again, for `RETRY_TIME`."""
    deadline = time.monotonic() + RETRY_TIME
    while True:
        try:
            return bus().call(job, timeout=timeout)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def show(value: Any, status: int = 200) -> Response:
    """Render a result: it is spelled as the API spells it already."""
    return Response(msgspec.json.encode(value) + b"\n", status=status, headers={"Content-Type": "application/json"})
