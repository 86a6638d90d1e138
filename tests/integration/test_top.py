"""docker top: the processes of a container, seen from the host."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.root


def test_top_lists_the_containers_processes_with_the_hosts_pids(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", "sleep 50 & exec sleep 51")
    pid = stack.out("inspect", "-f", "{{.State.Pid}}", "web")
    titles, *rows = [line.split(None, 7) for line in stack.out("top", "web").splitlines()]
    assert titles == ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]
    assert [row[7].strip() for row in sorted(rows)] == ["sleep 51", "sleep 50"]
    assert pid in [row[1] for row in rows]
    assert stack.out("top", "web", "-o", "pid").split()[0] == "PID"
    stack.docker("pause", "web")
    assert "sleep 50" in stack.out("top", "web", "aux")


def test_top_of_what_does_not_run_or_cannot_be(stack: Any) -> None:
    container = stack.out("run", "-d", "--name", "web", "busybox", "sleep", "50")
    for args, text in (
        (["web", "-o", "comm"], "Couldn't find PID field in ps output"),
        (["web", "-o", "ppid=PID"], "is not allowed"),
        (["nobody"], "No such container: nobody"),
    ):
        assert text in stack.docker("top", *args, check=False).stderr
    stack.docker("stop", "-t", "0", "web")
    assert f"container {container} is not running" in stack.docker("top", "web", check=False).stderr
