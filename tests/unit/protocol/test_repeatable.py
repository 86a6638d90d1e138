"""Every job can be asked again after its answer was lost, or says why not (docs/protocol.md, rule 12)."""

from __future__ import annotations

from shared.protocol import catalogue


def test_each_job_is_repeatable_or_says_why_not() -> None:
    silent = [
        name
        for name, kind in catalogue().items()
        if kind.__module__.startswith("shared.")
        if ("Not repeatable: " in (kind.__doc__ or "")) == kind.REPEATABLE
    ]
    assert not silent
