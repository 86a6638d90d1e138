"""docker restart, and restart policies."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.integration.conftest import until

pytestmark = pytest.mark.root


def test_restart_policies(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "restarted", "--restart", "on-failure:2", "busybox", "false")
    until(lambda: stack.out("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "restarted") == "2 exited")


def pid(stack: Any, name: str = "web") -> str:
    return str(stack.out("inspect", "-f", "{{.State.Pid}}", name))


def test_one_that_runs_and_one_that_does_not(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    stack.docker("create", "--name", "other", "busybox", "sleep", "1000")
    before = pid(stack)
    assert stack.out("restart", "-t", "0", "web", "other") == "web\nother"
    assert before != pid(stack) != "0" != pid(stack, "other")
    assert stack.out("inspect", "-f", "{{.RestartCount}}", "web") == "0"  # it counts what the policy does


def test_its_signal_and_time(stack: Any) -> None:
    stack.needs(23, "restart --signal")
    script = "trap 'echo usr1; exit 0' USR1; trap '' TERM; echo up; while :; do sleep 0.05; done"
    stack.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", script)
    until(lambda: stack.out("logs", "web") == "up")
    stack.docker("restart", "-s", "USR1", "web")
    until(lambda: stack.out("logs", "web") == "up\nusr1\nup")
    began = time.monotonic()
    stack.docker("restart", "-t", "1", "web")
    assert 1 <= time.monotonic() - began < 8


def test_of_none(stack: Any) -> None:
    result = stack.docker("restart", "nobody", check=False)
    assert (result.returncode, "No such container: nobody" in result.stderr) == (1, True)


def test_what_was_stopped_by_hand_stays_so(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "web", "--restart", "always", "busybox", "sleep", "1000")
    stack.docker("stop", "-t", "0", "web")
    assert stack.out("inspect", "-f", "{{.State.Status}}", "web") == "exited"
    stack.docker("start", "web")
    stack.docker("exec", "web", "kill", "-9", "1", check=False)
    state = json.loads(stack.out("inspect", "-f", "{{json .HostConfig.RestartPolicy}}", "web"))
    assert state == {"Name": "always", "MaximumRetryCount": 0}


def test_remove_and_restart_exclude_each_other(stack: Any) -> None:
    result = stack.docker("run", "--rm", "--restart", "always", "busybox", "true", check=False)
    assert (result.returncode, "onflicting options" in result.stderr) == (125, True)


def test_what_runs_with_rm_is_restarted_and_goes_with_its_end(stack: Any) -> None:
    stack.docker("run", "-d", "--rm", "--name", "web", "busybox", "sleep", "1000")
    stack.docker("restart", "-t", "0", "web")
    assert stack.out("inspect", "-f", "{{.State.Status}} {{.HostConfig.AutoRemove}}", "web") == "running true"
    stack.docker("kill", "web")
    until(lambda: not stack.out("ps", "-aq"))
