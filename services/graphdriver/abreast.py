"""Abreast: the layers of one image, several at a time: who makes files waits for the kernel and the disk, mostly."""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from shared.bus.context import check_cancelled
from shared.protocol import Cancelled

__all__ = ["MOST", "abreast"]

MOST = max(2, min(4, os.cpu_count() or 1))  # at a time; the interpreter's lock has no use for more
T = TypeVar("T")


def abreast(count: int, work: Callable[[int, Callable[[], None]], T], at_a_time: int = MOST) -> list[T]:
    """Do ``work(index, check)`` for each index, begun in order, ``at_a_time``; returns what they return, in order.

    With the first that fails no other is begun, and ``check``, which they call now and then, raises in those under
    way. When this returns or raises, none is. Errors: that of the lowest index which failed by itself; Cancelled.
    """
    return _Abreast(count, work).run(min(at_a_time, count))


class _Stopped(Cancelled):
    """Of one that did not fail by itself."""


class _Abreast(Generic[T]):
    def __init__(self, count: int, work: Callable[[int, Callable[[], None]], T]) -> None:
        self._work = work
        self._left = iter(range(count))
        self._lock = threading.Lock()
        self._done: dict[int, T] = {}
        self._failed: dict[int, BaseException] = {}

    def run(self, at_a_time: int) -> list[T]:
        """The calling thread is one of those which work."""
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(self._go_on,), name="abreast", daemon=True)
            for _ in range(at_a_time - 1)
        ]
        for thread in threads:
            thread.start()
        self._go_on()
        for thread in threads:
            thread.join()
        failures = [self._failed[index] for index in sorted(self._failed)]
        for failure in [one for one in failures if not isinstance(one, _Stopped)] or failures:
            raise failure
        return [self._done[index] for index in sorted(self._done)]

    def _go_on(self) -> None:
        while (index := self._next()) is not None:
            try:
                self._done[index] = self._work(index, self._check)
            except BaseException as error:  # to be raised by `run`
                self._failed[index] = error

    def _next(self) -> int | None:
        with self._lock:
            return None if self._failed else next(self._left, None)

    def _check(self) -> None:
        check_cancelled()
        if self._failed:
            raise _Stopped("another layer failed")
