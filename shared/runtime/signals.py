"""Signals by name or number, as users write them."""

from __future__ import annotations

import re
import signal

from shared.protocol import InvalidArgument

__all__ = ["parse_signal"]

SIGNAL = re.compile(r"(RTMIN\+)?([0-9]{1,2})")


def parse_signal(text: str) -> int:
    """Return the number of a signal given as ``SIGTERM``, ``term`` or ``15``. Errors: InvalidArgument."""
    name = text.strip().upper().removeprefix("SIG")
    found = SIGNAL.fullmatch(name)
    number = int(found[2]) + (signal.SIGRTMIN if found[1] else 0) if found else 0
    if 0 < number <= signal.SIGRTMAX:
        return number
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError:
        raise InvalidArgument(f"Invalid signal: {text}") from None
