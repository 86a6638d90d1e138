"""The job that the present thread or task works for: children inherit its id, its deadline and its cancellation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from shared.protocol import Cancelled, Header, Output

__all__ = [
    "Context",
    "Origin",
    "asked_again",
    "caller_id",
    "check_cancelled",
    "current",
    "emit",
    "job_id",
    "origin",
    "unhindered",
    "waiting_for",
]


@dataclass
class Context:
    header: Header
    send_status: Callable[[Output], None]
    cancelled: threading.Event = field(default_factory=threading.Event)
    waiting: tuple[str, float] | None = None  # for what, since when (seconds since the epoch)

    @property
    def remaining(self) -> float | None:
        """Seconds until the deadline, at least 0; None when there is none."""
        deadline = self.header.deadline
        return None if deadline is None else max(0.0, deadline - time.monotonic())


@dataclass
class Origin:
    """For whom jobs are called that no other job called: a client, and the ids of the jobs called for it so far."""

    peer: str = ""
    jobs: list[str] = field(default_factory=list)

    def note(self, job: str) -> None:
        if len(self.jobs) < JOBS_NOTED:
            self.jobs.append(job)


JOBS_NOTED = 8  # a stream may call one a second
origin: ContextVar[Origin | None] = ContextVar("dockyard_origin", default=None)
current: ContextVar[Context | None] = ContextVar("dockyard_job", default=None)


def emit(text: str, stream: str = "stdout") -> None:
    """Send a STATUS of the present job to its caller; without a job, do nothing."""
    context = current.get()
    if context is not None:
        context.send_status(Output(stream=stream, text=text))


def check_cancelled() -> None:
    """Raise Cancelled if the present job was cancelled; long work calls this between its steps."""
    context = current.get()
    if context is not None and context.cancelled.is_set():
        raise Cancelled(f"{context.header.name}: cancelled")


def asked_again() -> bool:
    """Say whether the present job was asked before, and its answer lost: what is done already is done then."""
    context = current.get()
    return context is not None and context.header.again


def job_id() -> str:
    """Return the id of the present job; empty where there is none."""
    context = current.get()
    return context.header.id if context is not None else ""


def caller_id() -> str:
    """Return the id of the job that called the present one; empty where there is none."""
    context = current.get()
    return context.header.parent if context is not None else ""


@contextmanager
def waiting_for(what: str) -> Iterator[None]:
    """Have `dockyard jobs` show what the present job waits for."""
    context = current.get()
    if context is None:
        yield
        return
    before, context.waiting = context.waiting, (what, time.time())
    try:
        yield
    finally:
        context.waiting = before


@contextmanager
def unhindered() -> Iterator[None]:
    """Do what has to be done although the present job was cancelled, or its deadline has passed."""
    context = current.get()
    header = Header(id=context.header.id, name=context.header.name) if context is not None else Header()
    token = current.set(Context(header, lambda output: None))
    try:
        yield
    finally:
        current.reset(token)
