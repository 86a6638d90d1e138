"""A full disk: what runs goes on, and whatever makes room, or ends something, is still done and recorded."""

from __future__ import annotations

import errno
import itertools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api import request
from tests.integration.conftest import Stack, until

pytestmark = pytest.mark.root

BLOCK = 4096  # bytes


@pytest.fixture
def stack(new_stack: Callable[..., Stack]) -> Iterator[Stack]:
    stack = new_stack()
    stack.root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(stack.root)], check=True)
    stack.start().dockyard("busybox")
    yield stack
    stack.docker("rm", "-f", *stack.out("ps", "-aq").split())
    stack.stop()
    subprocess.run(["umount", str(stack.root)], check=True)


def fill(root: Path) -> Path:
    """Fill the file system to its last block, as whatever shares it with us may."""
    path = root / "filling"
    with path.open("wb", buffering=0) as file, pytest.raises(OSError) as caught:
        while True:
            file.write(b"x" * BLOCK)
    assert caught.value.errno == errno.ENOSPC
    return path


def states(stack: Stack) -> dict[str, Any]:
    rows = stack.out("ps", "-a", "--format", "{{.Names}} {{.State}}").splitlines()
    return dict(row.split() for row in rows)


def test_a_full_disk_is_told_as_long_as_it_is_full(stack: Stack) -> None:
    full = f"the disk is full: less than 16 MB are free in {stack.root}"

    def status() -> str:
        return next(line for _, line in reversed(stack.notifications) if line.startswith("STATUS="))

    stack.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", "echo said; exec sleep 1000")
    assert full not in stack.docker("info").stderr
    filling = fill(stack.root)
    assert f"WARNING: {full}" in stack.docker("info").stderr
    until(lambda: status() == f"STATUS=degraded: {full}", 30)
    assert "engine" in stack.dockyard("ps").stdout
    assert states(stack) == {"web": "running"}
    assert stack.out("logs", "web") == "said"
    filling.unlink()
    assert full not in stack.docker("info").stderr
    until(lambda: status() == "STATUS=ready", 30)


def test_on_a_full_disk_containers_are_ended_and_removed(stack: Stack) -> None:
    for name in ("stopped", "killed", "removed", "ends"):
        stack.docker("run", "-d", "--name", name, "busybox", "sh", "-c", "trap exit TERM; while :; do sleep 0.1; done")
    filling = fill(stack.root)
    refused = stack.docker("run", "busybox", "true", check=False)
    assert (refused.returncode, "o space left on device" in refused.stderr) == (125, True), refused.stderr
    stack.docker("stop", "stopped")
    stack.docker("kill", "killed")
    assert stack.out("wait", "killed") == "137"
    stack.docker("rm", "-f", "removed")
    stack.docker("exec", "ends", "kill", "1")
    assert stack.out("wait", "ends") == "0"
    expected = {"stopped": "exited", "killed": "exited", "ends": "exited"}
    assert states(stack) == expected
    engine = stack.pids("engine")
    stack.dockyard("restart", "engine")  # and it is durable
    until(lambda: stack.pids("engine") not in ([], engine))
    assert states(stack) == expected
    stack.docker("rm", "stopped")
    filling.unlink()
    assert stack.out("run", "--rm", "busybox", "echo", "room again") == "room again"


def test_where_even_the_reserve_is_used_up_the_answer_says_so(stack: Stack) -> None:
    """And the engine is there, and goes on when there is room."""
    heavy = f"long={'x' * 100_000}"  # in its record, and in each event of it
    stack.docker("run", "-d", "--name", "web", "--label", heavy, "busybox", "sleep", "1000")
    filling = fill(stack.root)

    def refused() -> Any:
        """Have records written until the answer is no."""
        status, answer = request(stack, "POST", "/containers/web/update", {"Memory": next(sizes)})
        return status != 200 and (status, answer)

    sizes = itertools.count(64 << 20, 4096)
    full = {"message": "the engine's records cannot be written: no space left on device"}
    assert until(refused, 60) == (500, full)
    assert states(stack) == {"web": "running"}
    filling.unlink()
    stack.docker("stop", "-t", "0", "web")
    assert states(stack) == {"web": "exited"}
