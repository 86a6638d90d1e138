"""docs/drivers.md: a driver of one's own, run as the page says it."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench import bus
from tests.integration.conftest import Stack, until

EXAMPLE = Path(__file__).parents[2] / "docs/examples/hello.py"
CIRCUS = Path(__file__).parents[2] / "circus.ini"


@contextmanager
def greeter(stack: Stack) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, str(EXAMPLE)], env=stack.environ) as process:
        try:
            until(lambda: "hello" in stack.dockyard("commands").stdout.split())
            yield process
        finally:
            process.kill()


def test_a_job_of_ones_own_is_one_like_any_other(stack: Stack) -> None:
    with greeter(stack):
        answer = stack.dockyard("job", "hello", "--env", "who=you")
        assert (answer.stdout, answer.stderr) == ("hello, you\n", "a greeting is under way\n")
        until(lambda: "greeter" in stack.dockyard("jobs", "--name", "hello").stdout)


def test_it_is_there_again_after_a_restart_of_the_engine(stack: Stack) -> None:
    with greeter(stack):
        os.kill(stack.pids("engine")[0], signal.SIGKILL)
        assert stack.dockyard("job", "hello").stdout == "hello, world\n"


def test_its_death_takes_its_names_and_nothing_else(stack: Stack) -> None:
    with greeter(stack):
        pass
    answer = stack.dockyard("job", "hello", check=False)
    assert (answer.returncode, answer.stderr) == (127, "hello: command not found\n")
    assert stack.out("run", "--rm", "busybox", "echo", "hi") == "hi"


def test_a_second_one_is_refused_and_the_first_goes_on(stack: Stack) -> None:
    with greeter(stack), subprocess.Popen([sys.executable, str(EXAMPLE)], env=stack.environ) as second:
        until(lambda: "Can't overwrite handler for command hello" in stack.log())
        second.kill()
        second.wait()
        assert stack.dockyard("job", "hello").stdout == "hello, world\n"


def test_the_arbiter_starts_it_and_starts_it_again(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack()
    stack.directory.mkdir(parents=True, exist_ok=True)
    ini = stack.directory / "circus.ini"
    ini.write_text(
        CIRCUS.read_text() + f"\n[watcher:greeter]\ncmd = python {EXAMPLE}\npriority = 15\ncopy_env = True\n"
    )
    stack.arguments = ["--circus-ini", str(ini)]
    stack.start()
    assert stack.dockyard("job", "hello").stdout == "hello, world\n"
    row = next(line for line in stack.dockyard("ps").stdout.splitlines() if line.startswith("greeter"))
    os.kill(int(row.split()[1]), signal.SIGKILL)
    assert until(lambda: stack.dockyard("job", "hello", check=False).stdout == "hello, world\n")


def test_a_stopped_driver_slows_nothing_that_does_not_need_it(stack: Stack) -> None:
    for number in range(20):
        stack.docker("create", "--name", f"c{number}", "busybox", "true")

    def p50(name: str, body: bytes) -> float:
        return statistics.median(bus.round_trips(stack.run, name, body, seconds=1.5)[1])

    asked = {"ping": b"{}", "containers": b'{"all":true}', "version": b"{}"}
    before = {name: p50(name, body) for name, body in asked.items()}
    with bus.frozen(stack.run, "execdriver"), bus.frozen(stack.run, "netdriver"):
        for name, body in asked.items():
            assert p50(name, body) < 4 * before[name] + 5  # milliseconds: of a busy machine, and not of a timeout
