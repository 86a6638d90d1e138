"""Units: durations, sizes and times, as an operator writes and reads them."""

from __future__ import annotations

import re
import time
from datetime import datetime

__all__ = ["clock", "duration", "parse_since", "size"]

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def duration(seconds: float) -> str:
    """Render seconds in at most two units: ``850us``, ``12.3ms``, ``4.21s``, ``3m12s``, ``2h05m``, ``9d04h``."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f}us"
    if seconds < 1:
        return f"{seconds * 1e3:.1f}ms"
    if seconds < 60:
        return f"{seconds:.2f}s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def size(count: float) -> str:
    """Render bytes: ``512B``, ``38.2M``."""
    for unit in ("B", "K", "M", "G"):
        if count < 1000:
            return f"{count:.0f}B" if unit == "B" else f"{count:.1f}{unit}"
        count /= 1000
    return f"{count:.1f}T"


def clock(epoch: float, now: float) -> str:
    """Render a time, with the date unless it is within the last 18 hours."""
    shape = "%H:%M:%S" if now - epoch < 18 * 3600 else "%Y-%m-%d %H:%M:%S"
    return time.strftime(shape, time.localtime(epoch))


def parse_since(text: str, now: float) -> float:
    """Parse ``90s``, ``10m``, ``1h30m``, ``2d``, an ISO 8601 time or seconds since the epoch; returns the latter.

    Errors: ValueError.
    """
    if re.fullmatch(r"(\d+(\.\d+)?[smhdw])+", text):
        return now - sum(float(n) * SECONDS[unit] for n, unit in re.findall(r"([\d.]+)([smhdw])", text))
    if re.fullmatch(r"\d{9,}(\.\d+)?", text):
        return float(text)
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ValueError(f"{text!r} is none of 10m, 2026-01-31T12:00, 1767225600") from None
