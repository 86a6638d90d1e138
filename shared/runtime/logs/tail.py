"""Tail: where the last lines of a log begin, found from its end."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass

from shared.runtime.logs.entries import HEAD, PARTS, TIME, WHOLE, moment
from shared.runtime.logs.files import Part
from shared.runtime.logs.selection import Selection

__all__ = ["Beginning", "find_tail"]

BLOCK = 1 << 16  # bytes
SPARE = 2  # lines that may have begun before the place found: one of each stream


@dataclass(frozen=True)
class Beginning:
    """Read from byte ``offset`` of the part of that index, and pass over ``skip`` wanted lines."""

    index: int = 0
    offset: int = 0
    skip: int = 0


def find_tail(parts: list[Part], limit: int, selection: Selection, *, ended: bool) -> Beginning:
    """Find the last ``selection.tail`` wanted lines of what there is up to byte ``limit`` of the last part.

    ``ended``: a line without newline at the end counts as one.
    """
    if selection.tail < 0 or not parts:
        return Beginning()
    found, counter = 0, _Counter(selection)
    for index in reversed(range(len(parts))):
        last = index == len(parts) - 1
        for offset, block in _backwards(parts[index], limit if last else None):
            lines = block.split(b"\n")[:-1]
            if last and ended and counter.blocks == 0:
                found += counter.unfinished(lines)
            found += counter.count(lines)
            if found >= selection.tail + SPARE or counter.too_early(lines):
                return Beginning(index, offset, max(0, found - selection.tail))
    return Beginning(0, 0, max(0, found - selection.tail))


class _Counter:
    def __init__(self, selection: Selection) -> None:
        self._since = moment(selection.since) if selection.since else b""
        self._until = moment(selection.until) if selection.until else b""
        wanted = (selection.stdout, selection.stderr)
        self._whole = [kind for kind, stream in WHOLE.items() if wanted[stream - 1]]
        self._parts = [kind for kind in PARTS if wanted[kind == PARTS[1]]]
        self.blocks = 0

    def count(self, lines: list[bytes]) -> int:
        """Return how many wanted lines end here."""
        self.blocks += 1
        if self._since:
            lines = [line for line in lines if line[:TIME] >= self._since]
        if self._until:
            lines = [line for line in lines if line[:TIME] <= self._until]
        kinds = [line[TIME:HEAD] for line in lines]
        return sum(kinds.count(kind) for kind in self._whole)

    def unfinished(self, lines: list[bytes]) -> int:
        """Return how many lines were left without a newline at the end."""
        last = {line[TIME : TIME + 8]: line[TIME:HEAD] for line in lines}
        return sum(kind in self._parts for kind in last.values())

    def too_early(self, lines: list[bytes]) -> bool:
        return bool(self._since) and bool(lines) and max(lines)[:TIME] < self._since


def _backwards(part: Part, limit: int | None) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, whole lines from there), from the end to the beginning; a compressed part is one block."""
    file = part.open()
    if file is None:
        return
    with file:
        if isinstance(file, gzip.GzipFile):
            yield 0, file.read()
            return
        end = file.seek(0, 2) if limit is None else limit
        begin = end
        while begin > 0:
            begin = max(0, begin - BLOCK)
            file.seek(begin)
            block = file.read(end - begin)
            last = block.rfind(b"\n") + 1  # what is being written is no line yet
            first = block.find(b"\n") + 1 if begin else 0
            if last > first:
                yield begin + first, block[first:last]
                end = begin + first
