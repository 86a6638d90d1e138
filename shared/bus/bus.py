"""Bus: what a process needs to send jobs. `FakeBus` stands in for it in unit tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from shared.protocol import DockyardError, Job, Output, Unavailable, job_name

__all__ = ["PATIENCE", "Bus", "EngineSilent", "FakeBus", "OnStatus"]

PATIENCE = 10.0  # seconds without any answer after which the engine counts as gone
R = TypeVar("R")
OnStatus = Callable[[Output], None]


class EngineSilent(Unavailable):
    """Nothing was heard of the engine for as long as the caller's patience lasts."""


class Bus(Protocol):
    def call(
        self,
        job: Job[R],
        *,
        timeout: float | None = 60.0,
        on_status: OnStatus | None = None,
        patience: float = PATIENCE,
    ) -> R:
        """Send a job and return its result; blocks. ``timeout`` in seconds, None for no deadline.

        ``on_status`` sees each STATUS as it comes. Raises the error the job ended with; Unavailable when the driver
        vanished or the deadline passed; EngineSilent when nothing was heard of the engine for ``patience`` seconds.
        May be called from any thread.
        """
        ...


class FakeBus:
    """Answer each job from ``answers`` (name → result, error, or function of the job) and keep it in ``calls``."""

    def __init__(self, answers: Mapping[str, Any] | None = None) -> None:
        self.answers = dict(answers or {})
        self.calls: list[Job[Any]] = []

    def call(
        self,
        job: Job[R],
        *,
        timeout: float | None = 60.0,
        on_status: OnStatus | None = None,
        patience: float = PATIENCE,
    ) -> R:
        self.calls.append(job)
        answer: Any = self.answers.get(job_name(job))
        if callable(answer):
            answer = answer(job)
        if isinstance(answer, DockyardError):
            raise answer
        result: R = answer
        return result
