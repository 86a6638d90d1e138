"""Signals that are sent once: a container's bundle keeps which were sent for which job.

| line of RUN/containers/<id>/signals | says                                                     |
|-------------------------------------|----------------------------------------------------------|
| ``JOB NUMBER begun``                | it is about to be sent                                   |
| ``JOB NUMBER ended``                | it was sent, or could not be: there was no process       |

A driver that dies between the two leaves what nobody can know.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from services.execdriver.bundle import Bundle
from shared.protocol import DockyardError

__all__ = ["once"]


@contextmanager
def once(bundle: Bundle, job: str, number: int) -> Iterator[bool]:
    """Yield whether a signal is still to be sent for a job. Errors: DockyardError (nobody knows)."""
    path, mark = bundle.directory / "signals", f"{job} {number}"
    lines = path.read_text().splitlines() if path.exists() else []
    if f"{mark} ended" in lines:
        yield False
        return
    if f"{mark} begun" in lines:
        raise DockyardError(f"a driver died while it sent signal {number} to {bundle.container}: it may have arrived")
    with path.open("a") as file:
        file.write(f"{mark} begun\n")
        file.flush()
        try:
            yield True
        finally:
            file.write(f"{mark} ended\n")
