"""Logging: one event a line on stderr, ``key=value``. What is said while a job is worked on carries its id.

Whatever a client sent, it makes no line of its own: control characters are shown, and lines of a traceback indented.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TextIO

from shared.bus.context import current

__all__ = ["set_up_logging"]

_PLAIN = logging.Formatter()


class _Handler(logging.StreamHandler[TextIO]):
    """`logging`'s own form, written at once; the second's text is kept, since a busy engine logs thousands in one."""

    _second, _shown = 0, ""

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
        return line


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
