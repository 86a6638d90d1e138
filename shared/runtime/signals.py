"""Signals by name or number, as users write them."""

from __future__ import annotations

import re
import signal

from shared.protocol import InvalidArgument

__all__ = ["parse_signal"]

SIGNAL = re.compile(r"(RTMIN\+|RTMAX-)?([0-9]{1,2})")


def parse_signal(text: str) -> int:
    """Return the number of a signal given as ``SIGTERM``, ``term``, ``15``, ``RTMIN+1`` or ``RTMAX-1``.

    Errors: InvalidArgument.
    """
    name = text.strip().upper().removeprefix("SIG")
    found = SIGNAL.fullmatch(name)
    if found:
        base = found[1] or ""
        number = {"": 0, "RTMIN+": signal.SIGRTMIN, "RTMAX-": signal.SIGRTMAX}[base]
        number += -int(found[2]) if base == "RTMAX-" else int(found[2])
        if (signal.SIGRTMIN if base else 1) <= number <= signal.SIGRTMAX:
            return number
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError:
        raise InvalidArgument(f"Invalid signal: {text}") from None
