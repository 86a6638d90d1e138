"""docker pause, docker unpause, and what other verbs do to a paused container."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import until

pytestmark = pytest.mark.root
COUNT = "while :; do echo x; usleep 10000; done"


@pytest.fixture
def paused(stack: Any) -> Any:
    stack.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", COUNT)
    assert stack.out("pause", "web") == "web"
    return stack


def state(stack: Any, name: str = "web") -> Any:
    return json.loads(stack.out("inspect", "-f", "{{json .State}}", name))


def refused(stack: Any, *args: str) -> str:
    result = stack.docker(*args, check=False)
    assert result.returncode != 0
    return str(result.stderr)


def test_pause_and_unpause(paused: Any) -> None:
    shown = state(paused)
    assert (shown["Status"], shown["Running"], shown["Paused"]) == ("paused", True, True)
    assert "(Paused)" in paused.out("ps", "--filter", "status=paused", "--format", "{{.Status}}")
    assert "is already paused" in refused(paused, "pause", "web")
    assert "cannot start a paused container" in refused(paused, "start", "web")
    assert "unpause" in refused(paused, "attach", "web")
    assert "must be unpaused first" in refused(paused, "rm", "web")
    lines = paused.out("logs", "web").count("x")
    paused.docker("unpause", "web")
    assert state(paused)["Status"] == "running"
    until(lambda: paused.out("logs", "web").count("x") > lines)
    assert "is not paused" in refused(paused, "unpause", "web")
    span = ["--since", "0", "--until", str(time.time())]
    actions = paused.out("events", *span, "--filter", "container=web", "--format", "{{.Action}}")
    assert actions.split()[-2:] == ["pause", "unpause"]


@pytest.mark.parametrize(
    ("command", "code"), [(["stop", "-t", "5"], 143), (["kill"], 137), (["kill", "-s", "TERM"], 143)]
)
def test_what_ends_a_container_ends_a_paused_one(stack: Any, command: list[str], code: int) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", f"trap 'exit 143' TERM; {COUNT}")
    stack.docker("pause", "web")
    stack.docker(*command, "web")
    until(lambda: state(stack)["Status"] == "exited")
    assert (state(stack)["ExitCode"], state(stack)["Paused"]) == (code, False)


def test_restart_and_rm_force_of_a_paused_container(paused: Any) -> None:
    paused.docker("restart", "-t", "1", "web")
    assert state(paused)["Status"] == "running"
    paused.docker("pause", "web")
    paused.docker("rm", "-f", "web")
    assert paused.out("ps", "-aq") == ""


@pytest.mark.parametrize("service", ["engine", "execdriver"])
def test_a_pause_outlives_engine_and_driver(paused: Any, service: str) -> None:
    (pid,) = paused.pids(service)
    os.kill(pid, signal.SIGKILL)
    until(lambda: paused.pids(service) not in ([], [pid]))
    assert state(paused)["Status"] == "paused"
    paused.docker("unpause", "web")
    assert state(paused)["Status"] == "running"


def test_what_was_frozen_behind_the_engines_back_is_shown_as_paused(stack: Any) -> None:
    """As after an engine that died between the freezing and its record."""
    container = stack.out("run", "-d", "--name", "web", "busybox", "sleep", "60")
    v1, v2 = (Path("/sys/fs/cgroup") / f"{sub}{stack.cgroup}/{container}" for sub in ("freezer", ""))
    file, word = (v1 / "freezer.state", "FROZEN") if v1.exists() else (v2 / "cgroup.freeze", "1")
    file.write_text(word)
    (pid,) = stack.pids("engine")
    os.kill(pid, signal.SIGKILL)
    until(lambda: stack.pids("engine") not in ([], [pid]))
    until(lambda: state(stack)["Status"] == "paused")
