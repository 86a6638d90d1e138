"""Health checks: what a result makes of a container's health, with no container at all."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from services.execdriver.bundle import Bundle, Start
from services.execdriver.health import KEPT_PROBES, Check, Schedule
from shared.protocol import Health, HealthConfig


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    bundle = Bundle.of(tmp_path, "c1")
    bundle.exit_file.parent.mkdir(parents=True)
    bundle.create(Start(3, "/dockyard/c1"))
    return bundle


def check(bundle: Bundle, **config: Any) -> Check:
    return Check(bundle, Schedule.of(HealthConfig(**config), {"args": ["test"]}), Health(), -1)


def answer(code: int = 0, output: str = "", error: str = "", after: float = 0.0) -> dict[str, Any]:
    start = time.time() + after
    return {"id": "", "exit_code": code, "output": output, "error": error, "start": start, "end": start + 0.1}


def test_retries_then_unhealthy_then_one_success(bundle: Bundle) -> None:
    found = check(bundle, retries=2)
    assert [found.note(answer(1)), found.note(answer(1)), found.note(answer(1))] == [False, True, False]
    assert (found.health.status, found.health.failing_streak) == ("unhealthy", 3)
    assert found.note(answer(0))
    assert (found.health.status, found.health.failing_streak) == ("healthy", 0)
    assert not found.note(answer(1))
    assert found.health.status == "healthy"
    kept = json.loads((bundle.directory / "health-state.json").read_text())
    assert (kept["Status"], kept["FailingStreak"], len(kept["Log"])) == ("healthy", 1, 5)


def test_in_the_start_period_failures_do_not_count_but_success_does(bundle: Bundle) -> None:
    found = check(bundle, retries=1, start_period=60 * 10**9, start_interval=2 * 10**9, interval=9 * 10**9)
    assert found.pause(time.time()) == 2.0
    assert not found.note(answer(1))
    assert (found.health.status, found.health.failing_streak) == ("starting", 0)
    assert found.note(answer(1, after=61))
    assert found.health.status == "unhealthy"
    assert found.pause(time.time() + 61) == 9.0
    found.note(answer(0))
    assert found.pause(time.time()) == 9.0


def test_beginnings_and_ends_are_told_once_and_few_are_kept(bundle: Bundle) -> None:
    found = check(bundle)
    for result in (answer(1), answer(-1, error="timeout"), answer(-1, error="not found")):
        found.begun()
        found.note(result)
    told = found.report().probes
    assert [probe.exit_code for probe in told] == [None, 1, None, 137, None]
    assert told[0].exec == told[1].exec != told[2].exec
    assert found.report().probes == []
    for _ in range(KEPT_PROBES):
        found.begun()
        found.note(answer(0))
    assert len(found.report().probes) == KEPT_PROBES


def test_defaults(bundle: Bundle) -> None:
    schedule = check(bundle).schedule
    assert (schedule.interval, schedule.start_period, schedule.start_interval, schedule.retries) == (30, 0, 5, 3)
    assert schedule.probe["timeout"] == 30


@pytest.mark.parametrize(
    ("result", "output"),
    [
        (answer(1, "x" * 5000), "x" * 4096 + "..."),
        (answer(-1, "so far", "timeout"), "Health check exceeded timeout (1.5s): so far"),
        (answer(-1, "", "timeout"), "Health check exceeded timeout (1.5s)"),
        (
            answer(-1, "", "not found"),
            "OCI runtime exec failed: exec failed: unable to start container process: "
            'exec: "test": executable file not found in $PATH: unknown',
        ),
    ],
)
def test_what_is_said_of_a_probe(bundle: Bundle, result: dict[str, Any], output: str) -> None:
    found = check(bundle, timeout=1_500_000_000)
    found.note(result)
    assert found.health.log[0].output == output
    assert found.health.log[0].exit_code == result["exit_code"]


def test_the_prober_loads_nothing_of_ours() -> None:
    """It is forked for each probe: what it has loaded is paid for each time."""
    source = (Path(__file__).parents[3] / "services" / "execdriver" / "prober.py").read_text()
    assert "import msgspec" not in source
    assert "from shared" not in source
