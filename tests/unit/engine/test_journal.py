"""The journal on its own: what its database refuses is lost, and nothing else."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from services.engine import journal as journals
from services.engine.flights import Flight, Flights
from services.engine.journal import Journal
from services.engine.store import Store
from shared.protocol import Header, ListJobs


def flight(number: int) -> Flight:
    return Flight(Header(id=f"{number:032x}", name="start"), b"{}", lambda frame: None, status=0, message="x" * 1000)


def test_a_full_disk_costs_entries_and_not_the_engine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path)
    journal = Journal(store, retention=3600)
    (pages,) = store.db.execute("PRAGMA page_count").fetchone()

    def recorded() -> set[Any]:
        return {job.id for job in journal.find(ListJobs(), Flights(lambda flight: None))}

    store.db.execute(f"PRAGMA max_page_count={pages}")
    for number in range(100):
        journal.note(flight(number))
    with caplog.at_level(logging.ERROR):
        assert recorded() == set()
    assert "100 entries of the job journal lost" in caplog.text
    store.db.execute("PRAGMA max_page_count=1000000")
    journal.note(flight(7))
    assert recorded() == {f"{7:032x}"}
    store.close()


def test_old_entries_go_when_there_are_too_many_or_they_are_too_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "KEPT", 30)
    store = Store(tmp_path)
    journal = Journal(store, retention=3600)

    def kept() -> int:
        return len(found())

    def found() -> list[str]:
        return [job.id for job in journal.find(ListJobs(limit=1000), Flights(lambda flight: None))]

    for number in range(100):
        journal.note(flight(number))
    assert kept() == 30
    for number in range(100, 110):
        journal.note(flight(number))
    assert kept() == 30
    old = flight(200)
    old.started -= 3601
    journal.note(old)
    assert (kept(), old.header.id in found()) == (30, False)
    monkeypatch.setattr(journals, "FORGOTTEN_MORE", 10)
    monkeypatch.setattr(journals, "KEPT", 5)
    journal.note(flight(300))
    assert kept() == 20  # one came, eleven went
    store.close()


def test_old_entries_are_not_seen_and_go_though_nothing_comes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    journal = Journal(store, retention=3600)
    for number in range(4000):
        journal.note(flight(number))
    journal.flush()
    shorter, flights = Journal(store, retention=0), Flights(lambda flight: None)
    assert shorter.find(ListJobs(), flights) == []
    assert shorter.find(ListJobs(trace=f"{3999:032x}"), flights) == []
    assert store.db.execute("SELECT count(*) FROM jobs").fetchone() != (0,)  # a thousand go at a time
    for _ in range(4):
        shorter.flush()
    assert store.db.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
    store.close()
