"""Turns: the processes of a stack are there as soon as they can be, and begin their work one after the other.

At a boot the arbiter holds a lock for each of them (flock(2), RUN/turns/SERVICE). A process begins when its lock is
free: it has been given its turn, or nobody holds locks, as whenever one is started later. If the arbiter dies, the
kernel frees them all.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Turns", "await_turn"]


class Turns:
    """The arbiter's side. Who has had no turn when the arbiter ends has never begun, and ends with it."""

    def __init__(self, run: Path, services: Iterable[str]) -> None:
        directory = run / "turns"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._locks: dict[str, int] = {}
        for service in services:
            lock = self._locks[service] = os.open(directory / service, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)

    def give(self, service: str) -> None:
        os.close(self._locks.pop(service))


def await_turn(run: Path, service: str) -> None:
    """Return when it is this service's turn. A signal ends the process, as long as it has no handler."""
    try:
        lock = os.open(run / "turns" / service, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
    finally:
        os.close(lock)
