"""Departure: the arbiter tells its children that the whole stack stops, and not just one of them or to be replaced.

Then a driver whose containers have all ended takes away what it has made in the kernel. It is told by a file in the run
directory, since a signal says no more than that a process is to end, and by then the engine has gone.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

__all__ = ["announce", "is_announced", "revoke"]

NAME = "departure"


def announce(run: Path) -> None:
    """Where it cannot be told, more is left in the kernel than need be, which is no harm."""
    with suppress(OSError):
        (run / NAME).touch(mode=0o600)


def revoke(run: Path) -> None:
    """None is no error."""
    (run / NAME).unlink(missing_ok=True)


def is_announced(run: Path) -> bool:
    return (run / NAME).exists()
