"""Reader: a log from its files to a client, with what is still being written to them.

It needs nobody: not the process that rotates the files, which may die meanwhile, nor the monitor that writes them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from shared.bus.alarm import Alarm
from shared.runtime.logs.entries import Renderer
from shared.runtime.logs.files import LogFile, LogFiles, Part
from shared.runtime.logs.selection import Selection
from shared.runtime.logs.tail import find_tail
from shared.runtime.logs.watch import Watch

__all__ = ["Wait", "read_log", "sleep"]

BLOCK = 1 << 17  # bytes
PAUSE = 0.05  # seconds between two looks at a file that is followed and not written to
LONG_PAUSE = 5.0  # if the kernel tells of what is written, and alarms of the rest
Wait = Callable[[float], bool]


def sleep(seconds: float) -> bool:
    """Wait on behalf of a client that does not go."""
    time.sleep(seconds)
    return False


def read_log(
    path: Path,
    selection: Selection,
    *,
    follow: bool,
    ended: Callable[[], bool],
    wait: Wait = sleep,
    alarms: Sequence[Alarm] = (),
) -> Iterator[bytes]:
    """Yield what is wanted of the log at ``path`` (its ``container.log``), in pieces of whole frames.

    ``follow``: until ``ended`` says that the container has ended; else what there is now. ``wait`` waits for so many
    seconds, and says whether the client has gone. Who gives ``alarms`` sets one when either has happened.
    """
    files = LogFiles(path.parent)
    if follow:
        yield from _follow(files, selection, ended, wait, alarms)
    else:
        yield from _read(files, selection, ended=ended())


def _read(files: LogFiles, selection: Selection, *, ended: bool) -> Iterator[bytes]:
    """Read to where the log ends now, however fast it grows."""
    parts = files.parts()
    limit = _size(parts[-1]) if parts else 0
    start = find_tail(parts, limit, selection, ended=ended)
    renderer = Renderer(selection, start.skip)
    for part in parts[start.index :]:
        with _Open(part, start.offset if part == parts[start.index] else 0) as file:
            yield from _rendered(renderer, file.blocks(limit if part == parts[-1] else None))
            if part != parts[-1] or ended:
                yield from _rendered(renderer, file.rest())
        if renderer.done:
            return
    if ended:
        yield renderer.finish()


def _follow(
    files: LogFiles, selection: Selection, ended: Callable[[], bool], wait: Wait, alarms: Sequence[Alarm]
) -> Iterator[bytes]:
    while not (parts := files.parts()):  # it has not been started
        if ended() or wait(PAUSE):
            return
    start = find_tail(parts, _size(parts[-1]), selection, ended=False)
    renderer = Renderer(selection, start.skip)
    following: Part | None = parts[start.index]
    number, offset = max(part.number for part in parts[: start.index + 1]), start.offset
    while following is not None:
        with _Open(following, offset) as file, closing(file.watch(alarms)) as watch:
            pause = LONG_PAUSE if alarms and watch.is_told and not selection.until else PAUSE
            while True:
                # asked before the reading: what was written before the answer is read
                over, successor = ended(), files.after(number, file.inode)
                yield from _rendered(renderer, file.blocks())
                if renderer.done:
                    return
                if over or successor is not None:
                    break
                if _past(selection) or watch.wait(pause, wait):
                    return
            yield from _rendered(renderer, file.rest())
        following, offset = successor, 0
        number = max(number, following.number if following is not None else 0)
    yield renderer.finish()


def _rendered(renderer: Renderer, blocks: Iterator[bytes]) -> Iterator[bytes]:
    for block in blocks:
        if piece := renderer.feed(block):
            yield piece
        if renderer.done:
            return


def _past(selection: Selection) -> bool:
    return bool(selection.until) and time.time_ns() > selection.until


def _size(part: Part) -> int:
    try:
        return part.path.stat().st_size
    except FileNotFoundError:
        return 0


class _Open:
    """A part that is read; one that has gone meanwhile is empty."""

    def __init__(self, part: Part, offset: int) -> None:
        self._file: LogFile | None = part.open()
        self.inode = 0
        self._at, self._rest = offset, b""
        if self._file is not None:
            self.inode = os.fstat(self._file.fileno()).st_ino
            self._file.seek(offset)

    def __enter__(self) -> _Open:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def watch(self, alarms: Sequence[Alarm]) -> Watch:
        """Tell of what is written from now on."""
        return Watch(self._file.fileno() if self._file is not None else -1, alarms)

    def blocks(self, limit: int | None = None) -> Iterator[bytes]:
        """Yield whole lines up to the file's present end, or byte ``limit``."""
        while self._file is not None:
            wanted = BLOCK if limit is None else min(BLOCK, limit - self._at)
            chunk = self._file.read(wanted) if wanted > 0 else b""
            if not chunk:
                return
            self._at += len(chunk)
            data = self._rest + chunk if self._rest else chunk
            cut = data.rfind(b"\n") + 1
            self._rest = data[cut:]
            if cut:
                yield data[:cut] if self._rest else data

    def rest(self) -> Iterator[bytes]:
        """Yield a last line that was torn, by a full disk or the end of its writer, as if it were whole."""
        if self._rest:
            yield self._rest + b"\n"
            self._rest = b""
