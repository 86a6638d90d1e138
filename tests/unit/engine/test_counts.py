"""What the engine counts of jobs, and how spans are named after them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.engine.counts import JobCounts
from services.engine.flights import Flight
from services.engine.spans import trace_of
from shared.protocol import JOB_BUCKETS, Header


def ended(took: float, *, name: str = "kill", code: str = "", status: int = 0) -> Flight:
    flight = Flight(Header(id="a" * 32, name=name), b"{}", lambda frame: None)
    flight.ended, flight.code, flight.status = flight.started + took, code, status
    return flight


@given(st.lists(st.floats(0, 100)))
def test_each_job_is_in_one_bucket(times: list[float]) -> None:
    counts = JobCounts()
    for took in times:
        counts.note(ended(took))
    for count in counts.all():
        assert sum(count.buckets) == len(times)
        assert len(count.buckets) == len(JOB_BUCKETS) + 1
    slow = sum(took > JOB_BUCKETS[-1] + 1e-3 for took in times)
    assert not times or counts.all()[0].buckets[-1] >= slow


def test_jobs_that_nobody_has_are_one_whatever_their_name() -> None:
    counts = JobCounts()
    for name in ("nonsense", "more", "kill"):
        counts.note(ended(0.0, name=name, code="job_not_found", status=127))
    counts.note(ended(0.0, code="not_found", status=1))
    assert [(count.name, count.code, sum(count.buckets)) for count in counts.all()] == [
        ("", "job_not_found", 3), ("kill", "not_found", 1),
    ]  # fmt: skip


def test_a_trace_is_named_by_the_first_job_that_is_known() -> None:
    first = Flight(Header(id="1" * 32, name="start"), b"{}", lambda frame: None)
    second = Flight(Header(id="2" * 32, name="runtime_start", parent=first.header.id), b"{}", lambda frame: None)
    third = Flight(Header(id="3" * 32, name="x", parent=second.header.id), b"{}", lambda frame: None)
    known = {flight.header.id: flight for flight in (first, second)}
    assert {trace_of(flight, known.get) for flight in (first, second, third)} == {first.header.id}
    loop = Flight(Header(id="4" * 32, name="x", parent="4" * 32), b"{}", lambda frame: None)
    assert trace_of(loop, {"4" * 32: loop}.get) == "4" * 32
