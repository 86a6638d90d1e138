from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from services.ctl import joblist
from shared.bus.bus import FakeBus
from shared.protocol import Conflict, ListJobs, NotFound, PastJob, Unavailable
from tests.unit.ctl.past import past


def test_each_job_is_above_those_it_called_and_roots_keep_their_order() -> None:
    newer, older = past("b", started=20.0), past("a", started=10.0)
    children = [past(f"c{n}", "layer_mount", parent=older.id, started=10.0 + n) for n in (2, 1)]
    grandchild = past("d", "image_set", parent=children[0].id, started=13.0)
    orphan = past("e", "rm", parent="f" * 32, started=5.0)
    found = list(joblist.in_trees([newer, grandchild, *children, older, orphan]))
    assert [(depth, job.id[:2]) for depth, job in found] == [
        (0, "b0"), (0, "a0"), (1, "c1"), (1, "c2"), (2, "d0"), (0, "e0"),
    ]  # fmt: skip


def test_a_row_says_who_asked_where_it_runs_and_what_came_of_it() -> None:
    job = past("ab", "kill", args="web, SIGTERM", uid=1000, status=1, message="No such container: web")
    (row,) = joblist.rows([job], now=1010.0)
    assert row[:4] == (job.id, "kill(web, SIGTERM)", "apiserver[7] uid=1000", "engine")
    assert row[5:] == ("10.0ms", "1 No such container: web")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"took": 1.0}, "0"),
        ({"took": None}, "running"),
        ({"took": None, "waiting": "lock of container web", "waiting_since": 1007.0},
         "waiting for lock of container web since 3.00s"),
        ({"took": None, "waiting": "a process that offers build"}, "waiting for a process that offers build"),
        ({"took": None, "deadline": 57.0}, "running, 57.00s left"),
        ({"took": None, "waiting": "x at y", "waiting_since": 1000.0, "deadline": -2.0},
         "waiting for x at y since 10.00s, 2.00s late"),
    ],
)  # fmt: skip
def test_states(fields: dict[str, Any], text: str) -> None:
    assert joblist.state_text(past("a", **fields), now=1010.0) == text


def test_a_prefix_must_be_of_one_job() -> None:
    jobs = [past("aa1"), past("aa2"), past("b")]
    assert joblist.the_one("b", jobs).id.startswith("b")
    with pytest.raises(NotFound, match="no job c"):
        joblist.the_one("c", jobs)
    with pytest.raises(NotFound):
        joblist.the_one("", jobs)
    with pytest.raises(Conflict, match="2 jobs begin with aa: aa1000000000, aa2000000000"):
        joblist.the_one("aa", jobs)


def test_json_is_the_journal_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [past("a", args="web"), past("b", took=None, waiting="x")]
    joblist.show(jobs, as_json=True)
    assert msgspec.convert(json.loads(capsys.readouterr().out), list[PastJob]) == jobs


class Journal(FakeBus):
    """Answers as the engine does, from jobs that a test changes between two looks."""

    def __init__(self) -> None:
        super().__init__({"jobs": self.answer})
        self.jobs: list[PastJob] = []

    def answer(self, job: ListJobs) -> list[PastJob]:
        if job.trace:
            return [entry for entry in self.jobs if entry.id == job.trace]
        found = [entry for entry in self.jobs if job.name in ("", entry.name)]
        if job.running:
            return [entry for entry in found if entry.status is None]
        return [entry for entry in found if entry.started >= job.since and (entry.status or not job.failed)]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    def set_to(seconds: float) -> None:
        monkeypatch.setattr(joblist.time, "time", lambda: seconds)

    set_to(1000.0)
    return set_to


def ids(jobs: list[PastJob]) -> list[str]:
    return [job.id.rstrip("0") for job in jobs]


def test_to_follow_shows_each_job_when_it_ends_and_only_once(now: Callable[[float], None]) -> None:
    journal = Journal()
    long, old = past("a", "wait", started=500.0, took=None), past("b", started=900.0)
    journal.jobs = [long, old]
    found = joblist.batches(journal, ListJobs(), pause=lambda seconds: None)
    assert ids(next(found)) == ["a", "b"]
    assert next(found) == []
    ours = past("c", "jobs", started=1000.5, caller=f"ctl[{os.getpid()}]")
    journal.jobs += [past("d", started=1000.4, took=None), past("e", started=1000.4), ours]
    now(1001.0)
    assert ids(next(found)) == ["e"]
    journal.jobs[:1] = [past("a", "wait", started=500.0, took=501.0)]  # began long before the last look
    journal.jobs[2] = past("d", started=1000.4)
    now(1001.5)
    assert sorted(ids(next(found))) == ["a", "d"]
    assert next(found) == []


def test_to_follow_what_runs_shows_each_job_when_it_begins(now: Callable[[float], None]) -> None:
    journal = Journal()
    journal.jobs = [past("a", took=None), past("b")]
    found = joblist.batches(journal, ListJobs(running=True), pause=lambda seconds: None)
    assert ids(next(found)) == ["a"]
    journal.jobs.append(past("c", "wait", started=1000.1, took=None))
    assert ids(next(found)) == ["c"]
    assert next(found) == []


def test_to_follow_survives_an_engine_that_is_away(
    now: Callable[[float], None], capsys: pytest.CaptureFixture[str]
) -> None:
    journal = Journal()
    found = joblist.batches(journal, ListJobs(), pause=lambda seconds: None)
    assert next(found) == []
    journal.answers["jobs"] = Unavailable("jobs: the engine does not answer")
    now(1030.0)
    assert next(found) == []
    journal.answers["jobs"] = journal.answer
    journal.jobs = [past("a", started=1001.0)]  # while it was away
    now(1031.0)
    assert ids(next(found)) == ["a"]
    assert capsys.readouterr().err == "jobs: the engine does not answer; waiting for it\n"
