"""Counts: how many jobs have ended, how, and how long they took, by name: since the engine's start."""

from __future__ import annotations

from bisect import bisect_left

from services.engine.flights import Flight
from shared.protocol import JOB_BUCKETS, JobCount

__all__ = ["JobCounts"]

UNKNOWN = 127  # the status of a job that nobody has; its name may be anything


class JobCounts:
    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], JobCount] = {}

    def note(self, flight: Flight) -> None:
        name = "" if flight.status == UNKNOWN else flight.header.name
        key = name, flight.code
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = JobCount(name=name, code=flight.code, buckets=[0] * (len(JOB_BUCKETS) + 1))
        took = (flight.ended or flight.started) - flight.started
        count.seconds += max(0.0, took)
        count.buckets[bisect_left(JOB_BUCKETS, took)] += 1

    def all(self) -> list[JobCount]:
        return [self._counts[key] for key in sorted(self._counts)]
