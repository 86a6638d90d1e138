"""The fork server in a stack: who begins is a copy of it, and nobody misses it when it is gone."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.forks import is_fork_of
from tests.integration.conftest import command_line, descendants, until

pytestmark = pytest.mark.root
TREE = Path(__file__).parents[2]


def server_of(stack: Any) -> int:
    """Return the pid of a stack's fork server; 0 if it has none."""
    found = [pid for pid in descendants(stack.process.pid) if "services.forkserver" in command_line(pid)]
    return found[0] if found else 0


def pid_of(stack: Any, service: str) -> int:
    return max((pid for name, pid in stack.parts() if name == service and pid), default=0)


def replaced(stack: Any, service: str, former: int) -> int:
    """Wait until another process of a service takes jobs; returns its pid."""
    until(lambda: pid_of(stack, service) not in (0, former), 20)
    until(lambda: f"service ready name={service} pid={pid_of(stack, service)}" in stack.log(), 20)
    return pid_of(stack, service)


def test_all_are_forked_and_children_of_the_arbiter(new_stack: Callable[..., Any]) -> None:
    stack = new_stack().start()
    server = server_of(stack)
    parts = {pid for service, pid in stack.parts() if service != "arbiter"}
    assert len(parts) == 9
    assert all(is_fork_of(pid, server) for pid in parts)
    assert {server, *parts} <= set(descendants(stack.process.pid))
    (row,) = [row for row in json.loads(stack.dockyard("ps", "--json").stdout) if row["service"] == "forkserver"]
    assert (row["pid"], row["state"], row["health"], row["restarts"], row["jobs"]) == (
        server,
        "active",
        "ready",
        None,
        None,
    )
    for pid in parts:
        assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1] == str(stack.process.pid)


def test_a_server_that_is_killed_is_missed_by_nobody(new_stack: Callable[..., Any]) -> None:
    stack = new_stack().start()
    parts, former = stack.parts(), server_of(stack)
    os.kill(former, signal.SIGKILL)
    builder = pid_of(stack, "builder")
    os.kill(builder, signal.SIGKILL)  # before there is another
    builder = replaced(stack, "builder", builder)
    until(lambda: server_of(stack) not in (0, former), 20)
    assert {part for part in stack.parts() if part[0] != "builder"} == {part for part in parts if part[0] != "builder"}
    server = server_of(stack)
    os.kill(builder, signal.SIGKILL)
    assert is_fork_of(replaced(stack, "builder", builder), server)
    stack.docker("ps")


def test_it_ends_with_an_arbiter_that_is_killed(new_stack: Callable[..., Any]) -> None:
    stack = new_stack().start()
    server = server_of(stack)
    stack.process.kill()
    stack.process.wait(10)
    until(lambda: not Path(f"/proc/{server}").exists(), 10)


def test_a_part_that_is_killed_is_of_the_version_that_runs_until_there_is_an_upgrade(
    new_stack: Callable[..., Any], tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    for name in ("services", "shared"):
        shutil.copytree(TREE / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(TREE / "circus.ini", tree)
    stack = new_stack(PYTHONPATH=str(tree)).start()
    told = tmp_path / "told"
    program = tree / "services/builder/__main__.py"
    handlers = tree / "services/builder/handlers.py"
    program.write_text(
        program.read_text().replace("    sys.exit(", f"    open({str(told)!r}, 'w').close()\n    sys.exit(")
    )
    handlers.write_text(handlers.read_text() + f"\nopen({str(told)!r} + '.too', 'w').close()\n")
    former, builder = server_of(stack), pid_of(stack, "builder")
    os.kill(builder, signal.SIGKILL)
    builder = replaced(stack, "builder", builder)
    stack.dockyard("restart", "builder")
    replaced(stack, "builder", builder)
    assert not told.exists()
    assert not told.with_name("told.too").exists()
    stack.dockyard("upgrade")
    assert told.exists()
    assert told.with_name("told.too").exists()
    assert server_of(stack) not in (0, former)
    until(lambda: not Path(f"/proc/{former}").exists(), 10)
    assert is_fork_of(pid_of(stack, "builder"), server_of(stack))
