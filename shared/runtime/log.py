"""Logging: one event a line on stderr, ``key=value``. What is said while a job is worked on carries its id.

Whatever a client sent, it makes no line of its own: control characters are shown, and lines of a traceback indented.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import TextIO

from shared.bus.context import current

__all__ = ["set_up_logging"]

_PLAIN = logging.Formatter()
PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))


class _Handler(logging.StreamHandler[TextIO]):
    """`logging`'s own form, written at once; the second's text is kept, since a busy engine logs thousands in one."""

    _second, _shown = 0, ""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._tells_priority = _is_journal(stream)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.stream.write(f"{self.format(record)}\n")  # stderr is line-buffered: written by this
        except Exception:
            self.handleError(record)

    def format(self, record: logging.LogRecord) -> str:
        second = int(record.created)
        if second != self._second:
            self._shown = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
            self._second = second
        milliseconds = int((record.created - second) * 1000)
        line = f"{self._shown},{milliseconds:03d} {record.levelname} {record.name} {_plain(record.getMessage())}"
        context = current.get()
        if context is not None and context.header.id and " job=" not in line:
            line += f" job={context.header.id}"
        if record.exc_info:
            trace = _PLAIN.formatException(record.exc_info)
            line += "".join(f"\n  {_plain(row)}" for row in trace.split("\n"))
        return f"<{_priority(record.levelno)}>{line}" if self._tells_priority else line


def _priority(level: int) -> int:
    """Return the priority of syslog(3) that sd-daemon(3) has before a line."""
    return next(priority for least, priority in PRIORITIES if level >= least)


def _is_journal(stream: TextIO) -> bool:
    """Say whether systemd's journal reads what is written there: systemd.exec(5), JOURNAL_STREAM."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _plain(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def set_up_logging(*, debug: bool) -> None:
    # what no line shows is not looked up (logging HOWTO, "Optimization")
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    root = logging.getLogger()
    root.handlers[:] = [_Handler(sys.stderr)]
    root.setLevel(logging.WARNING)
    logging.getLogger("dockyard").setLevel(logging.DEBUG if debug else logging.INFO)
