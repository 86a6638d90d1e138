"""Entries: the log format (Kubernetes CRI, conmon's ``k8s-file``), and how it becomes what Docker's clients read.

| bytes  | content                                                                                      |
|--------|----------------------------------------------------------------------------------------------|
| 0-34   | time, RFC 3339 with nine digits: ``2026-11-24T10:58:11.630985409+00:00``                     |
| 35-44  | space, ``stdout`` or ``stderr``, space, ``F`` (the line's end) or ``P`` (it goes on), space  |
| 45-    | data, up to the newline                                                                      |

A line of a container is one frame, as with Docker; one longer than 16 KiB is several, of which only the last has a
newline and only the first a time. Its time is that of its end. Whole blocks of lines are treated at once: a line by
itself would cost more than the kernel takes to read it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from shared.runtime.logs.selection import Selection

__all__ = ["HEAD", "MAX_LINE", "Renderer", "head_of", "moment"]

HEAD = 45  # bytes before the data
TIME = 35  # of them the time
MAX_LINE = 16384  # bytes; a longer line is several frames
STREAMS = {b" stdout ": 1, b" stderr ": 2}
WHOLE = {b" stdout F ": 1, b" stderr F ": 2}
PARTS = (b" stdout P ", b" stderr P ")
KINDS = frozenset((*WHOLE, *PARTS))
LATEST = 253_402_300_799  # seconds: the last of the year 9999
UTC_OFFSET = b"+00:00"
ENTRY = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]{18}[+-]\d\d:\d\d (?:stdout|stderr) [FP] ")


def moment(nanoseconds: int) -> bytes:
    """Write a time as the log has it, so that texts compare as times do."""
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    seconds = min(max(seconds, 0), LATEST)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}+00:00".encode()


def head_of(line: bytes) -> tuple[bytes, int, bool] | None:
    """Return time in UTC, stream (1 stdout, 2 stderr), and whether it ends a line; None if it is no entry."""
    kind, when = line[TIME:HEAD], line[:TIME]
    if kind not in KINDS:
        return None
    if not when.endswith(UTC_OFFSET) and (utc := _in_utc(when)) is not None:
        when = utc
    return when, STREAMS[kind[:8]], kind in WHOLE


def _in_utc(when: bytes) -> bytes | None:
    try:
        there = datetime.fromisoformat(when[:19].decode() + when[29:].decode())
        return moment(int(there.timestamp()) * 1_000_000_000 + int(when[20:29]))
    except (ValueError, OverflowError):
        return None


class _Frames(dict[int, bytes]):
    """Length of an entry → header of its frame; made as they are needed, kept for the next."""

    def __init__(self, stream: int, extra: int) -> None:
        super().__init__()
        self._stream, self._extra = stream, extra

    def __missing__(self, length: int) -> bytes:
        self[length] = frame = struct.pack(">BxxxL", self._stream, length - HEAD + 1 + self._extra)
        return frame


class _Line:
    """What has come of a line that goes on."""

    __slots__ = ("begun", "data", "when")

    def __init__(self) -> None:
        self.data = self.when = b""
        self.begun = False  # some of it has been given out


class Renderer:
    """Turn blocks of a log, in order, into what a client reads. ``skip``: so many wanted lines are passed over.

    `done` is set when ``until`` is past.
    """

    def __init__(self, selection: Selection, skip: int = 0) -> None:
        self._selection, self._skip = selection, skip
        self._since = moment(selection.since) if selection.since else b""
        self._until = moment(selection.until) if selection.until else b""
        self._prefix = selection.prefix
        extra = (31 if selection.timestamps else 0) + len(self._prefix)
        wanted = (selection.stdout, selection.stderr)
        self._frames = {kind: _Frames(n, extra) for kind, n in WHOLE.items() if wanted[n - 1]}
        self._open = {1: _Line(), 2: _Line()}
        self.done = False

    def feed(self, block: bytes) -> bytes:
        """Render whole lines of the log, the last with its newline."""
        lines = block.split(b"\n")
        lines.pop()
        if not lines or self.done:
            return b""
        between = not any(line.data or line.begun for line in self._open.values())
        if between and self._since and self._all_too_early(lines):
            return b""
        if between and not self._skip and self._all_wanted(lines):
            kinds = [line[TIME:HEAD] for line in lines]
            if _join(lines, kinds) and WHOLE.keys() >= set(kinds):
                return self._together(lines, kinds)
            lines = block.split(b"\n")
            lines.pop()
        return b"".join(self._one_by_one(lines))

    def _all_too_early(self, lines: list[bytes]) -> bool:
        """Say whether a block ends before ``since``, and no line goes on after it."""
        if max(lines)[:TIME] >= self._since or lines[0][29:TIME] != UTC_OFFSET:
            return False
        last = {line[TIME : TIME + 8]: line[TIME:HEAD] for line in lines}
        return WHOLE.keys() >= set(last.values())

    def _all_wanted(self, lines: list[bytes]) -> bool:
        """Say whether no line of a block is too early, too late, or of a time to be converted."""
        if self._since and min(lines)[:TIME] < self._since:
            return False
        if self._until and max(lines)[:TIME] > self._until:
            return False
        return lines[0][29:TIME] == UTC_OFFSET == lines[-1][29:TIME]

    def _together(self, lines: list[bytes], kinds: list[bytes]) -> bytes:
        frames, prefix = self._frames, self._prefix
        first = kinds[0]
        if kinds.count(first) != len(kinds):
            chosen = [(frames[kind], line) for kind, line in zip(kinds, lines, strict=True) if kind in frames]
        elif first in frames:
            chosen = [(frames[first], line) for line in lines]
        else:
            return b""
        if not chosen:
            return b""
        if self._selection.tty:
            made = [self._plain(line) for _, line in chosen] if self._dressed else [line[HEAD:] for _, line in chosen]
        elif self._selection.timestamps:
            made = [b"%b%bZ %b%b" % (of[len(line)], line[:29], prefix, line[HEAD:]) for of, line in chosen]
        elif prefix:
            made = [b"%b%b%b" % (of[len(line)], prefix, line[HEAD:]) for of, line in chosen]
        else:
            made = [of[len(line)] + line[HEAD:] for of, line in chosen]
        return b"\n".join(made) + b"\n"

    @property
    def _dressed(self) -> bool:
        return self._selection.timestamps or bool(self._prefix)

    def _plain(self, line: bytes) -> bytes:
        when = line[:29] + b"Z " if self._selection.timestamps else b""
        return when + self._prefix + line[HEAD:]

    def _one_by_one(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        for written in lines:
            line, head = written, head_of(written)
            if head is None:
                line = _after_tear(written)
                head = head_of(line)
            if head is None:
                continue
            when, stream, whole = head
            if self._until and when > self._until:
                self.done = True
                return
            yield from self._take(when, stream, line[HEAD:], whole=whole)

    def _take(self, when: bytes, stream: int, data: bytes, *, whole: bool) -> Iterator[bytes]:
        if not (self._selection.stdout, self._selection.stderr)[stream - 1]:
            return
        line = self._open[stream]
        line.data += data
        line.when = when
        wanted = not self._skip and when >= self._since
        while len(line.data) > MAX_LINE or (len(line.data) == MAX_LINE and not whole):
            if wanted:
                yield self._piece(when, stream, line.data[:MAX_LINE], begins=not line.begun)
            line.data, line.begun = line.data[MAX_LINE:], True
        if whole:
            if wanted:
                yield self._piece(when, stream, line.data + b"\n", begins=not line.begun)
            elif when >= self._since:
                self._skip -= 1
            line.data, line.begun = b"", False

    def _piece(self, when: bytes, stream: int, data: bytes, *, begins: bool) -> bytes:
        if begins:
            data = self._prefix + data
            if self._selection.timestamps:
                data = when[:29] + b"Z " + data
        return data if self._selection.tty else struct.pack(">BxxxL", stream, len(data)) + data

    def finish(self) -> bytes:
        """Render what the container left without a newline when it ended."""
        if self.done or self._skip:
            return b""
        left = [(stream, line) for stream, line in self._open.items() if line.data and line.when >= self._since]
        return b"".join(self._piece(line.when, stream, line.data, begins=not line.begun) for stream, line in left)


def _after_tear(line: bytes) -> bytes:
    """Return the entry inside a line that begins without a head: a full disk tore one, and the next is behind it."""
    found = ENTRY.search(line)
    return line[found.start() :] if found else b""


def _join(lines: list[bytes], kinds: list[bytes]) -> bool:
    """Join the parts of a line that stand together, in place; False if there are others, or it is a long line."""
    for part in PARTS:
        for _ in range(kinds.count(part)):
            at = kinds.index(part)
            if at + 1 == len(kinds) or kinds[at + 1][:8] != part[:8]:
                return False
            head, data = lines[at + 1][:HEAD], lines[at][HEAD:]
            goes_on = kinds[at + 1] == part  # then it is cut as soon as it has the greatest length
            if len(joined := head + data + lines[at + 1][HEAD:]) > HEAD + MAX_LINE - goes_on:
                return False
            lines[at + 1] = joined
            del lines[at], kinds[at]
    return True
