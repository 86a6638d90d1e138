"""docker stop and docker kill."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.integration.conftest import until

pytestmark = pytest.mark.root
DEAF = "trap '' TERM; trap 'exit 7' USR1; trap 'echo hup' HUP; echo up; while :; do sleep 0.05; done"


@pytest.fixture
def deaf(stack: Any) -> Any:
    stack.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", DEAF)
    until(lambda: stack.out("logs", "web") == "up")
    return stack


def code(stack: Any, name: str = "web") -> str:
    return str(stack.out("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name))


@pytest.mark.parametrize(
    ("options", "expected"),
    [(["-s", "USR1"], "exited 7"), (["-s", "SIGKILL"], "exited 137"), (["-t", "0"], "exited 137")],
)
def test_its_signal_and_time(deaf: Any, options: list[str], expected: str) -> None:
    if "-s" in options:
        deaf.needs(23, "stop --signal")
    assert deaf.out("stop", *options, "web") == "web"
    assert code(deaf) == expected


def test_it_waits_before_it_kills(deaf: Any) -> None:
    began = time.monotonic()
    deaf.docker("stop", "-t", "1", "web")
    assert 1 <= time.monotonic() - began < 6


def test_several_stopped_ones_and_none(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "one", "busybox", "sleep", "1000")
    stack.docker("create", "--name", "two", "busybox", "true")
    result = stack.docker("stop", "-t", "0", "one", "nobody", "two", check=False)
    assert (result.returncode, result.stdout.split()) == (1, ["one", "two"])
    assert "No such container: nobody" in result.stderr


@pytest.mark.parametrize("signal", ["HUP", "SIGHUP", "1"])
def test_a_signal_of_any_spelling(deaf: Any, signal: str) -> None:
    assert deaf.out("kill", "-s", signal, "web") == "web"
    until(lambda: "hup" in deaf.out("logs", "web"))
    assert code(deaf) == "running 0"


def test_kill(deaf: Any) -> None:
    deaf.docker("kill", "web")
    until(lambda: code(deaf) == "exited 137")
    container = deaf.out("inspect", "-f", "{{.Id}}", "web")
    again = deaf.docker("kill", "web", check=False)
    assert (again.returncode, f"cannot kill container: web: container {container} is not running" in again.stderr) == (
        1,
        True,
    )


def test_what_is_no_signal(deaf: Any) -> None:
    for verb in ("kill", "stop") if deaf.client >= 23 else ("kill",):
        result = deaf.docker(verb, "-s", "NONESUCH", "web", check=False)
        assert (result.returncode, "NONESUCH" in result.stderr) == (1, True), result.stderr
    assert code(deaf) == "running 0"
