"""Logging: one event a line on stderr, ``key=value``. What is said while a job is worked on carries its id.

Whatever a client sent, it makes no line of its own: control characters are shown, and lines of a traceback indented.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from shared.bus.context import current

__all__ = ["set_up_logging"]


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        line, context = _plain(super().formatMessage(record)), current.get()
        if context is None or not context.header.id or " job=" in line:
            return line
        return f"{line} job={context.header.id}"

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(f"  {_plain(line)}" for line in super().formatException(ei).split("\n"))


def _plain(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def set_up_logging(*, debug: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("dockyard").setLevel(logging.DEBUG if debug else logging.INFO)
