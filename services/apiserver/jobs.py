"""Jobs: how a route calls its one job. Jobs that only read are asked again while the engine is being restarted."""

from __future__ import annotations

import time
from typing import Any, TypeVar

import msgspec
from flask import Response, current_app

from shared.bus.bus import Bus, OnStatus
from shared.protocol import Job, NotFound, StartContainer, Unavailable, WaitContainer, new_id

__all__ = ["RETRY_TIME", "bus", "call", "read", "show", "start"]

R = TypeVar("R")
RETRY_TIME = 10.0  # seconds


def bus() -> Bus:
    made: Bus = current_app.extensions["dockyard.bus"]
    return made


def call(job: Job[R], *, timeout: float | None = 120.0, on_status: OnStatus | None = None) -> R:
    """Call a job that changes something: once."""
    return bus().call(job, timeout=timeout, on_status=on_status)


def read(job: Job[R], *, timeout: float = RETRY_TIME, on_status: OnStatus | None = None) -> R:
    """Call a job that only reads, or names its attempt; while nobody answers, again, for `RETRY_TIME`."""
    deadline = time.monotonic() + RETRY_TIME
    while True:
        try:
            return bus().call(job, timeout=timeout, on_status=on_status)
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def start(container: str) -> None:
    """Start a container; a start whose answer is lost with the engine is asked for again, for `RETRY_TIME`."""
    job = StartContainer(container=container, attempt=new_id())
    deadline = time.monotonic() + RETRY_TIME
    lost: Unavailable | None = None
    while True:
        try:
            return call(job)
        except Unavailable as error:
            if time.monotonic() > deadline:
                raise
            lost = error
            time.sleep(0.05)
        except NotFound:
            if lost is None:
                raise
            return _must_have_run(container, lost)


def _must_have_run(container: str, lost: Unavailable) -> None:
    """A container that went away during its start has either run and been removed, or come to nothing."""
    try:
        read(WaitContainer(container=container, condition="removed", generation=1))
    except NotFound:
        raise lost from None


def show(value: Any, status: int = 200) -> Response:
    """Render a result: it is spelled as the API spells it already."""
    return Response(msgspec.json.encode(value) + b"\n", status=status, headers={"Content-Type": "application/json"})
