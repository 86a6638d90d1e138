"""Prepared: answers kept as they are on the wire, for reads that are asked again and again (`docker ps` in a loop).

What an answer says is of the records and of the second ("Up 3 seconds"): it is good until somebody commits, or the
second is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from services.engine.store import Store
from shared.protocol import Job, encode_body

__all__ = ["Prepared"]

LIMIT = 16  # answers to different questions; who asks more makes them anew


class Prepared:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._good_for: tuple[Any, ...] = ()
        self._answers: dict[bytes, msgspec.Raw] = {}

    def answer(self, job: Job[Any], make: Callable[[], Any]) -> msgspec.Raw:
        """Return what ``make`` returns, encoded."""
        good_for = (self._store.revision(), int(time.time()))
        if good_for != self._good_for or len(self._answers) >= LIMIT:
            self._answers.clear()
            self._good_for = good_for
        question = encode_body(job)
        if question not in self._answers:
            self._answers[question] = msgspec.Raw(encode_body(make()))
        return self._answers[question]
