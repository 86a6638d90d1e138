"""Jobs: how a route calls its one job."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from flask import Response, current_app

from shared.bus.bus import Bus, EngineSilent, OnStatus
from shared.protocol import Job, JobNotFound, Unavailable

__all__ = ["MEASURE_TIMEOUT", "bus", "call", "read", "show"]

R = TypeVar("R")
READ_TIMEOUT = 10.0  # seconds
MEASURE_TIMEOUT = 3600.0  # seconds that it may take to look at all that is on disk
READ_PATIENCE = 0.8  # seconds of silence


def bus() -> Bus:
    made: Bus = current_app.extensions["dockyard.bus"]
    return made


def call(job: Job[R], *, timeout: float | None = 120.0, on_status: OnStatus | None = None) -> R:
    """Call a job; the bus asks again what may be asked again (`Job.REPEATABLE`) when a process dies under it."""
    return bus().call(job, timeout=timeout, on_status=on_status)


def read(job: Job[R], *, timeout: float = READ_TIMEOUT, patience: float = READ_PATIENCE) -> R:
    """Call a job that only reads: it is the reader that answers while the engine is silent, if it can."""
    reader: Bus = current_app.extensions["dockyard.reader"]
    try:
        return bus().call(job, timeout=timeout, patience=patience)
    except EngineSilent:
        try:
            return reader.call(job, timeout=timeout, patience=READ_PATIENCE)
        except (JobNotFound, Unavailable):
            return bus().call(job, timeout=timeout)


def show(value: Any, status: int = 200) -> Response:
    """Render a result: it is spelled as the API spells it already."""
    return Response(msgspec.json.encode(value) + b"\n", status=status, headers={"Content-Type": "application/json"})
