"""Following: the event journal as an iterator, by its sequence numbers: none is lost, none comes twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import msgspec

from shared.protocol import Event, ReadEvents

__all__ = ["WAIT", "follow"]

WAIT = 20.0  # seconds that one question to the journal waits


def follow(read: Callable[[ReadEvents], list[Event]], asked: ReadEvents) -> Iterator[Event]:
    """Yield what ``asked`` asks for as it comes, to its ``until`` or without end. Errors: those of ``read``."""
    while True:
        left = (asked.until - time.time_ns()) / 1e9 if asked.until else WAIT
        found = read(msgspec.structs.replace(asked, wait=max(0.0, min(WAIT, left))))
        yield from found
        if found:
            asked = msgspec.structs.replace(asked, after=found[-1].seq)
        elif left <= 0:
            return
