"""What `dockyard ps` and `dockyard top` say when all answer, and when one does not."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from services.ctl import overview
from services.ctl.cgroups import Cgroups
from services.ctl.overview import Overview
from services.ctl.stack import Process, StackError
from services.ctl.top import Screen
from shared.bus.bus import FakeBus
from shared.protocol import ServiceStatus, Unavailable
from tests.unit.ctl.past import past


def process(service: str, *pids: int, restarts: int | None = 0) -> Process:
    return Process(service, pids, "active" if pids else "stopped", restarts, 10.0, 38_200_000, 1.5)


def status(service: str, pid: int, **fields: Any) -> ServiceStatus:
    return ServiceStatus(**{"service": service, "pid": pid, "ready": True, "names": [], "silent": 0.2, **fields})


PROCESSES = [
    process("arbiter", 1, restarts=None),
    process("engine", 2),
    process("apiserver", 3, 33),
    process("execdriver", 4, restarts=2),
    process("netdriver", 5),
    process("graphdriver"),
]
SERVICES = [
    status("engine", 2, jobs=2),
    status("apiserver", 33),
    status("execdriver", 4, ready=False, silent=12.0, jobs=1),
]
JOBS = [
    past("a", "wait", took=None, caller="apiserver[33]"),
    past("b", "start", took=None, caller="ctl[9]"),
    past("c", "runtime_start", took=None, caller="engine[0]", service="execdriver"),
]


class Arbiter:
    """What `Stack` offers to `look`."""

    def __init__(self, answer: list[Process] | StackError) -> None:
        self.answer = answer

    def processes(self) -> Iterator[Process]:
        if isinstance(self.answer, StackError):
            raise self.answer
        yield from self.answer


def look(arbiter: list[Process] | StackError, **answers: Any) -> Overview:
    return overview.look(cast(Any, Arbiter(arbiter)), FakeBus({"services": SERVICES, "jobs": JOBS, **answers}))


def columns(seen: Overview, *names: str) -> list[tuple[str, ...]]:
    rows = overview.process_rows(seen, 100.0, lambda process: f"{process.cpu}")
    return [tuple(row[overview.PROCESS_HEADER.index(name)] for name in names) for row in rows]


def test_health_restarts_and_jobs_in_flight() -> None:
    assert columns(look(PROCESSES), "SERVICE", "HEALTH", "RESTARTS", "JOBS") == [
        ("arbiter", "ready", "-", "-"),
        ("engine", "ready", "0", "2"),
        ("apiserver", "ready", "0", "1"),  # its worker asked for one
        ("execdriver", "silent 12s", "2", "1"),
        ("netdriver", "not registered", "0", "0"),
        ("graphdriver", "-", "-", "-"),
    ]


def test_uptime_and_memory() -> None:
    assert columns(look(PROCESSES), "PID", "UPTIME", "MEMORY", "CPU")[1] == ("2", "1m30s", "38.2M", "1.5")


def test_a_driver_that_has_not_said_ready_is_starting() -> None:
    seen = look([process("netdriver", 5)], services=[status("netdriver", 5, ready=False)])
    assert columns(seen, "HEALTH") == [("starting",)]


def test_without_the_engine_the_processes_are_there() -> None:
    seen = look(PROCESSES, services=Unavailable("services: no answer before the deadline"))
    assert seen.engine_trouble == "the engine does not answer (services: no answer before the deadline)"
    assert columns(seen, "SERVICE", "HEALTH", "JOBS")[:3] == [
        ("arbiter", "ready", "-"),
        ("engine", "no answer", "-"),
        ("apiserver", "?", "-"),
    ]
    assert seen.jobs == []


def test_without_the_arbiter_the_engine_names_the_processes() -> None:
    seen = look(StackError("the arbiter does not answer"), services=[status("engine", os.getpid())])
    assert seen.arbiter_trouble == "the arbiter does not answer"
    assert columns(seen, "SERVICE", "PID", "STATE", "HEALTH") == [("engine", str(os.getpid()), "?", "ready")]


def test_records_have_units_and_nulls() -> None:
    records = overview.process_records(look(PROCESSES), 100.0)
    assert records[3] == {
        "service": "execdriver", "pid": 4, "state": "active", "health": "silent 12s", "uptime": 90.0, "restarts": 2,
        "jobs": 1, "memory": 38_200_000, "cpu": 1.5,
    }  # fmt: skip
    assert (records[5]["pid"], records[5]["uptime"]) == (None, None)


@pytest.fixture
def run() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dy") as directory:  # short: a socket's path has 107 bytes
        yield Path(directory)


def test_a_frame_without_anybody_shows_what_the_kernel_knows(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("services.ctl.top.TIMEOUT", 0.05)
    container = "ab" * 32
    group = run / "cgroup" / "dockyard" / container
    group.mkdir(parents=True)
    (group / "cpu.stat").write_text("usage_usec 1000000\n")
    (group / "memory.current").write_text("5000000\n")
    (group / "pids.current").write_text("3\n")
    assert Screen(run, Cgroups("/dockyard", run / "cgroup")).once() == 1
    out = capsys.readouterr().out
    assert "the arbiter does not answer" in out
    assert "the engine does not answer" in out
    assert "JOBS  not known" in out
    assert out.splitlines()[-1].split() == [container, "-", "?", "0.0%", "5.0M", "3"]
