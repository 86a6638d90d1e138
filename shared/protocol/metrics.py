"""Metrics: what the engine counts, for whoever watches."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from msgspec import field

from shared.protocol.job import Data, Job
from shared.protocol.system import ServiceStatus

__all__ = ["JOB_BUCKETS", "EngineMetrics", "JobCount", "ReadMetrics"]

JOB_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)  # seconds


class JobCount(msgspec.Struct, kw_only=True):
    """Jobs of one name that ended alike since the engine's start; ``code``: an error's, empty for OK.

    ``buckets``: how many took as long as each of `JOB_BUCKETS` at most, and more than the one before; the last longer.
    """

    name: str  # empty: of no job that there is
    code: str
    seconds: float = 0.0  # that all took together
    buckets: list[int] = field(default_factory=list)


class EngineMetrics(Data, frozen=True):
    jobs: list[JobCount]
    jobs_under_way: int
    containers: dict[str, int]  # by state
    images: int
    services: list[ServiceStatus]


class ReadMetrics(Job[EngineMetrics], frozen=True, tag="metrics"):
    """Tell how many jobs ended, and how; containers by state; the processes that are registered."""

    REPEATABLE: ClassVar[bool] = True
