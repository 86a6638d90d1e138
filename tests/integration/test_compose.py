"""Compose: what everybody does with it. `make conformance` has the rest (tests/conformance/compose)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.composing import Make, major, programs, project, pytest_generate_tests
from tests.integration.conftest import until

__all__ = ["project", "pytest_generate_tests"]
pytestmark = pytest.mark.root

SLEEP: dict[str, Any] = {"image": "busybox", "command": ["sleep", "1000"], "init": True}


def test_compose_is_there() -> None:
    """`make test` installs it; without it the tests of this file run with nothing."""
    assert programs()


def test_a_project_from_up_to_down(project: Make, stack: Any) -> None:
    check = {"test": ["CMD", "test", "-e", "/ready"], "interval": "0.3s", "timeout": "10s", "retries": 50}
    db = {"image": "busybox", "command": ["sh", "-c", "touch /ready; exec sleep 1000"], "init": True}
    web = {
        "image": "busybox",
        "command": ["sh", "-c", "ping -c1 -W5 store; echo hello; exec sleep 1000"],
        "init": True,
        "depends_on": {"db": {"condition": "service_healthy"}},
        "networks": ["front", "back"],
        "ports": ["127.0.0.1::80"],
    }
    app = project(
        {
            "db": {**db, "healthcheck": check, "networks": {"back": {"aliases": ["store"]}}, "volumes": ["data:/data"]},
            "web": web,
        },
        volumes={"data": {}},
        networks={"front": {}, "back": {}},
    )
    app("up", "-d")
    assert app.container("db")["State"]["Health"]["Status"] == "healthy"
    until(lambda: "hello" in app.out("logs", "web"))
    assert "1 packets received" in app.out("logs", "web")
    assert app("exec", "-T", "web", "sh", "-c", "exit 7", check=False).returncode == 7
    before = app.container("web")
    app("up", "-d")  # nothing has changed: nothing is made again
    after = app.container("web")
    assert (after["Id"], after["State"]["StartedAt"]) == (before["Id"], before["State"]["StartedAt"])
    app("down", "--timeout", "0")
    assert app.ids(all_=True) == []
    assert stack.out("volume", "ls", "-q") == f"{app.name}_data"


def test_scale_restart_and_a_changed_service(project: Make) -> None:
    app = project({"web": SLEEP})
    app("up", "-d", "--scale", "web=2")
    first, second = app.ids("web")
    started = app.inspect(first)["State"]["StartedAt"]
    app("restart", "-t", "0", "web")
    assert app.inspect(first)["State"]["StartedAt"] > started
    app("up", "-d", "--scale", "web=1", "--timeout", "0")
    assert app.ids("web", all_=True) == [first]
    if major(app.program) > 1:  # 1.29 fails at every engine of API 1.45 or newer: KeyError ContainerConfig
        app.write({"web": {**SLEEP, "environment": {"A": "1"}}})
        app("up", "-d", "--timeout", "0")
        assert "A=1" in app.container("web")["Config"]["Env"]
        assert app.container("web")["Id"] not in (first, second)
    answer = app("run", "--rm", "-T", "web", "sh", "-c", "cat; exit 4", input="through stdin\n", check=False)
    assert (answer.returncode, answer.stdout) == (4, "through stdin\n")


def test_logs_that_are_followed_come_to_their_end(project: Make) -> None:
    app = project({"job": {"image": "busybox", "command": ["sh", "-c", "echo one; sleep 1; echo two"]}})
    app("up", "-d")
    followed = app("logs", "-f", "--no-color", timeout=60).stdout
    assert "one" in followed
    assert "two" in followed
