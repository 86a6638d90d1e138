"""Stream: a container's output for whoever called `ContainerLogs`, from where its driver keeps it."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from shared.bus.bus import Bus
from shared.bus.context import Context, current
from shared.protocol import Cancelled, DockyardError, Header, LogStream, Unavailable, WaitContainer
from shared.runtime.logs.journal import read_journal
from shared.runtime.logs.reader import read_log
from shared.runtime.logs.selection import Selection

__all__ = ["stream_log"]

PAUSE = 0.1  # seconds before a lost wait is taken up again


def stream_log(
    bus: Bus, stream: LogStream, selection: Selection, *, follow: bool = False, gone: threading.Event | None = None
) -> Iterator[bytes]:
    """Yield a log in frames as Docker multiplexes them, or raw bytes if there is a terminal.

    ``gone`` is set when nobody wants it any more.
    """
    leave = threading.Event() if gone is None else gone
    over = threading.Event()
    follow = follow and stream.running
    if follow:
        ended = _watch_exit(bus, stream, over)
    else:

        def ended() -> bool:
            return not stream.running

    try:
        if stream.driver == "journald":
            yield from read_journal(stream.container, selection, follow=follow, ended=ended, wait=leave.wait)
        else:
            yield from read_log(Path(stream.path), selection, follow=follow, ended=ended, wait=leave.wait)
    finally:
        over.set()


def _watch_exit(bus: Bus, stream: LogStream, over: threading.Event) -> Callable[[], bool]:
    """Return what says whether the container's process has ended, be the engine away meanwhile; ``over``: no matter.

    The engine is told of an exit when the monitor has written all of the output.
    """
    ended = threading.Event()
    job = WaitContainer(container=stream.container, condition="next-exit", generation=stream.generation)

    def watch() -> None:
        current.set(Context(Header(), lambda output: None, cancelled=over))
        while not over.is_set():
            try:
                bus.call(job, timeout=None)
                break
            except Cancelled:
                return
            except Unavailable:
                time.sleep(PAUSE)
            except DockyardError:
                break  # it was removed
        ended.set()

    threading.Thread(target=contextvars.copy_context().run, args=(watch,), name="log-end", daemon=True).start()
    return ended.is_set
