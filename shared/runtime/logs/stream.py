"""Stream: a container's output for whoever called `ContainerLogs`, from where its driver keeps it."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from shared.bus.alarm import Alarm
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

    ``gone`` is set when nobody wants it any more; one that is no `Alarm` is looked at again and again.
    """
    leave = Alarm() if gone is None else gone
    follow = follow and stream.running
    ended, over = Alarm(), Alarm()
    if follow:
        _watch_exit(bus, stream, ended, over)
    elif not stream.running:
        ended.set()
    try:
        if stream.driver == "journald":
            yield from read_journal(stream.container, selection, follow=follow, ended=ended.is_set, wait=leave.wait)
        else:
            alarms = (ended, leave) if isinstance(leave, Alarm) else ()
            yield from read_log(
                Path(stream.path), selection, follow=follow, ended=ended.is_set, wait=leave.wait, alarms=alarms
            )
    finally:
        over.set()


def _watch_exit(bus: Bus, stream: LogStream, ended: Alarm, over: Alarm) -> None:
    """Set ``ended`` when the container's process has ended, be the engine away meanwhile; ``over``: no matter.

    The engine is told of an exit when the monitor has written all of the output.
    """
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
