"""Journal entries for the tests of what shows them."""

from __future__ import annotations

from typing import Any

from shared.protocol import PastJob

__all__ = ["past"]


def past(job_id: str, name: str = "start", **fields: Any) -> PastJob:
    """Make an entry; ``took``: seconds, None while it runs."""
    started, took = fields.pop("started", 1000.0), fields.pop("took", 0.01)
    ended, status = (None, None) if took is None else (started + took, 0)
    given = {"parent": "", "service": "engine", "caller": "apiserver[7]", "message": "", "status": status, **fields}
    return PastJob(id=job_id.ljust(32, "0"), name=name, started=started, ended=ended, **given)
