from __future__ import annotations

import time

import pytest

from services.ctl import timeline
from services.ctl.stacklog import LogLine
from shared.bus.bus import FakeBus
from shared.protocol import Conflict, ListJobs, NotFound, PastJob
from tests.unit.ctl.golden import assert_golden
from tests.unit.ctl.past import past

START = past("5e0c", "start", args="web", took=0.2, status=1, message="the network is not reachable")
TREE = [
    START,
    past("a1", "layer_mount", parent=START.id, service="graphdriver", started=1000.01, took=0.02, caller="engine[0]"),
    past("a2", "allocate_interface", parent=START.id, service="netdriver", started=1000.03, took=0.15, status=1,
         message="no such device"),
    past("a3", "wait_for_carrier", parent="a2".ljust(32, "0"), service="netdriver", started=1000.1, took=0.0001),
]  # fmt: skip
LOG = [LogLine(TREE[2].id, 1000.05, "WARNING", "netdriver", "link is slow name=eth0")]
UNDER_WAY = [
    past("5e", "start", args="web", took=None, deadline=50.0, parent="77".ljust(32, "0"), caller=""),
    past("a2", "runtime_start", parent="5e".ljust(32, "0"), service="execdriver", started=1005.0, took=None,
         waiting="a process that offers runtime_start", waiting_since=1006.0),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def drawn(jobs: list[PastJob], log: list[LogLine], width: int | None) -> str:
    lines = timeline.render(jobs, log, now=1010.0, width=width)
    assert width is None or max(map(len, lines)) <= width
    return "\n".join(lines) + "\n"


def test_a_tree_is_drawn_to_scale_with_errors_and_log() -> None:
    assert_golden("trace.txt", drawn(TREE, LOG, None))
    assert_golden("trace-80.txt", drawn(TREE, LOG, 80))


def test_what_is_under_way_goes_on_and_says_what_it_waits_for() -> None:
    assert_golden("trace-under-way.txt", drawn(UNDER_WAY, [], None))
    assert_golden("trace-under-way-80.txt", drawn(UNDER_WAY, [], 80))


@pytest.mark.parametrize("prefix", ["zz", "%", "", "a" * 33, "5E0C"])
def test_what_cannot_be_an_id_is_not_asked_for(prefix: str) -> None:
    bus = FakeBus({"jobs": TREE})
    with pytest.raises(NotFound, match="no job"):
        timeline.find(bus, prefix)
    assert bus.calls == []


def test_an_id_is_found_by_its_beginning() -> None:
    bus = FakeBus({"jobs": TREE})
    assert timeline.find(bus, "5e") == TREE
    assert bus.calls == [ListJobs(trace="5e")]
    with pytest.raises(Conflict, match="3 jobs begin with a"):
        timeline.find(bus, "a")
    with pytest.raises(NotFound, match="no job b"):
        timeline.find(FakeBus({"jobs": []}), "b")
