"""docker attach."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

import pytest

from tests.integration.api import hijack
from tests.integration.conftest import until
from tests.integration.terminal import Terminal

pytestmark = pytest.mark.root


def test_attach_again_and_detach(stack: Any) -> None:
    stack.docker("run", "-d", "-i", "--name", "attached", "busybox", "sh", "-c", "while read x; do echo got $x; done")
    process = subprocess.Popen(
        ["docker", "attach", "attached"], env=stack.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("hello\n")
    process.stdin.flush()
    assert process.stdout.readline() == "got hello\n"
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    assert stack.out("inspect", "-f", "{{.State.Running}}", "attached") == "true"


def attaches(stack: Any) -> bool:
    """Say whether somebody has attached to the container `web` that there is."""
    container = stack.out("inspect", "-f", "{{.Id}}", "web")
    found = ["-f", f"container={container}", "-f", "event=attach", "--format", "{{.Action}}"]
    return bool(stack.out("events", "--since", "1m", "--until", "0s", *found))


def test_no_stdin(stack: Any) -> None:
    stack.docker("run", "-d", "-i", "--name", "web", "busybox", "cat")
    with subprocess.Popen(
        ["docker", "attach", "--no-stdin", "web"], env=stack.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as attached:
        assert attached.stdin is not None
        attached.stdin.write(b"not for it\n")
        attached.stdin.flush()
        until(lambda: attaches(stack))
        stack.docker("kill", "web")
        assert attached.communicate(timeout=20)[0] == b""
        assert attached.returncode == 137


def test_the_exit_code_is_the_containers(stack: Any) -> None:
    stack.docker("run", "-d", "-i", "--name", "web", "busybox", "sh")
    result = stack.docker("attach", "web", input="exit 6\n", check=False)
    assert result.returncode == 6


def test_keys_of_ones_own_detach(stack: Any) -> None:
    stack.docker("run", "-dit", "--name", "web", "busybox", "sh")
    with Terminal(stack, "attach", "--detach-keys", "ctrl-x,q", "web") as terminal:
        terminal.type(b"echo $((6*7))\n")
        terminal.read_until(b"42")
        terminal.type(b"\x18q")
        terminal.wait()
    assert stack.out("inspect", "-f", "{{.State.Running}}", "web") == "true"


def test_signals_are_proxied(stack: Any) -> None:
    script = "trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done"
    stack.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", script)
    until(lambda: stack.out("logs", "web") == "up")
    with subprocess.Popen(["docker", "attach", "web"], env=stack.environ) as attached:
        until(lambda: attaches(stack))
        attached.send_signal(signal.SIGUSR1)
        assert attached.wait(20) == 9


def test_of_no_stream_at_all_it_ends_at_once(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    with hijack(stack, "/containers/web/attach?stream=1") as connection:
        connection.settimeout(10)
        assert connection.recv(1) == b""


def test_refusals(stack: Any) -> None:
    stack.docker("create", "--name", "made", "busybox", "true")
    stack.docker("run", "-d", "--name", "held", "busybox", "sleep", "1000")
    stack.docker("pause", "held")
    for name, said in (
        ("nobody", "No such container: nobody"), ("made", "cannot attach to a stopped container"),
        ("held", "cannot attach to a paused container"),
    ):  # fmt: skip
        result = stack.docker("attach", name, check=False)
        assert (result.returncode, said in result.stderr) == (1, True), result.stderr
