"""Kill -9 any one process while containers run: it is back by itself, and nobody has noticed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import until

pytestmark = pytest.mark.root

COUNTER = "n=0; while :; do n=$((n + 1)); echo $n; sleep 0.05; done"


def start_counter(stack: Any, name: str = "counter") -> int:
    stack.docker("run", "-d", "--name", name, "busybox", "sh", "-c", COUNTER)
    return int(stack.out("inspect", "-f", "{{.State.Pid}}", name))


def lines(stack: Any, name: str = "counter") -> list[int]:
    return [int(line) for line in stack.docker("logs", name).stdout.split()]


def kill_all(pids: list[int]) -> None:
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("service", ["engine", "graphdriver", "netdriver", "execdriver", "apiserver"])
def test_a_killed_process_comes_back_and_the_container_has_not_noticed(stack: Any, service: str) -> None:
    pid = start_counter(stack)
    until(lambda: len(lines(stack)) > 2)
    before = set(stack.pids(service))
    kill_all(list(before))
    assert stack.out("ps", "--format", "{{.Names}} {{.State}}") == "counter running"
    until(lambda: (after := set(stack.pids(service))) and not after & before)
    assert int(stack.out("inspect", "-f", "{{.State.Pid}}", "counter")) == pid
    count = len(lines(stack))
    until(lambda: len(lines(stack)) > count + 2)
    seen = lines(stack)
    assert seen == list(range(1, len(seen) + 1))
    assert stack.docker("run", "--rm", "busybox", "echo", "new").stdout == "new\n"
    began = time.monotonic()
    stack.docker("stop", "-t", "1", "counter")
    assert time.monotonic() - began < 8
    assert stack.out("wait", "counter") == "137"


@pytest.mark.parametrize("service", ["engine", "execdriver"])
def test_an_exit_while_nobody_looked_is_known_afterwards(stack: Any, service: str) -> None:
    since = str(time.time())
    stack.docker("run", "-d", "--name", "short", "busybox", "sh", "-c", "sleep 0.3; exit 9")
    kill_all(stack.pids(service))
    assert stack.out("wait", "short") == "9"
    died = stack.out("events", "--since", since, "--until", str(time.time()), "--filter", "container=short",
                     "--filter", "event=die", "--format", "{{.Action}}")  # fmt: skip
    assert died == "die"


def test_a_wait_that_is_under_way_survives_the_engine(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "long", "busybox", "sh", "-c", "until [ -e /over ]; do sleep 0.1; done; exit 6")
    answers: list[str] = []
    waiter = threading.Thread(target=lambda: answers.append(stack.out("wait", "long")))
    waiter.start()
    until(lambda: any(job["name"] == "wait" for job in running_jobs(stack)))
    kill_all(stack.pids("engine"))
    stack.docker("exec", "long", "touch", "/over")
    waiter.join(30)
    assert answers == ["6"]


def running_jobs(stack: Any) -> Any:
    return json.loads(stack.dockyard("jobs", "--running", "--json").stdout)


def test_an_attached_session_survives_all_but_its_own_worker(stack: Any) -> None:
    process = subprocess.Popen(
        ["docker", "run", "--rm", "-i", "busybox", "sh", "-c", "while read x; do echo got $x; done; exit 3"],
        env=stack.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for service in ("engine", "graphdriver", "netdriver", "execdriver"):
            process.stdin.write(f"{service}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"got {service}\n"
            before = set(stack.pids(service))
            kill_all(list(before))
            until(lambda service=service, before=before: set(stack.pids(service)) - before)
        process.stdin.write("last\n")
        process.stdin.close()
        assert process.stdout.read() == "got last\n"
        assert process.wait(30) == 3
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("service", ["engine", "execdriver"])
def test_a_start_survives_what_it_passes_through_and_is_made_once(stack: Any, tmp_path: Path, service: str) -> None:
    """A process is killed ever later in the course of a start; the client sees it succeed."""
    for step in range(4):
        ran = tmp_path / f"{step}"
        ran.touch()
        mount = f"{ran}:/ran"
        ref = stack.out("create", "-v", mount, "busybox", "sh", "-c", "echo once >> /ran; sleep 0.05; exit 3")
        starting = subprocess.Popen(["docker", "start", ref], env=stack.environ, stdout=subprocess.PIPE)
        time.sleep(0.015 + step * 0.012)
        kill_all(stack.pids(service))
        assert starting.communicate(timeout=30)[0].decode().strip() == ref
        assert starting.returncode == 0
        assert stack.out("wait", ref) == "3"
        if service == "engine":  # a killed execdriver may have undone a process that had begun
            assert ran.read_text() == "once\n"
        stack.docker("rm", ref)


def test_a_frozen_driver_does_not_freeze_the_rest(stack: Any) -> None:
    start_counter(stack)
    frozen = stack.pids("execdriver") + stack.pids("netdriver") + stack.pids("graphdriver")
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        for verb in (["ps"], ["inspect", "counter"], ["images"], ["version"], ["info"]):
            began = time.monotonic()
            stack.docker(*verb)
            assert time.monotonic() - began < 2, verb
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    until(lambda: stack.docker("run", "--rm", "busybox", "true", check=False).returncode == 0, 30)


def test_a_frozen_engine_does_not_freeze_who_only_looks(stack: Any) -> None:
    start_counter(stack)
    (engine,) = stack.pids("engine")
    os.kill(engine, signal.SIGSTOP)
    try:
        for verb in (
            ["ps"],
            ["inspect", "counter"],
            ["images"],
            ["version"],
            ["info"],
            ["network", "ls"],
            ["volume", "ls"],
        ):
            began = time.monotonic()
            shown = stack.docker(*verb)
            assert time.monotonic() - began < 2.5, verb
            assert verb != ["ps"] or "counter" in shown.stdout
            assert verb != ["info"] or "the engine does not answer" in shown.stdout + shown.stderr
        stopping = subprocess.Popen(["docker", "stop", "-t", "0", "counter"], env=stack.environ)
    finally:
        os.kill(engine, signal.SIGCONT)
    assert stopping.wait(30) == 0
    assert stack.out("inspect", "-f", "{{.State.Running}}", "counter") == "false"
    assert "the engine does not answer" not in stack.docker("info").stderr


def test_many_at_once_under_random_kills_leave_nothing(new_stack: Callable[..., Any]) -> None:
    """Whatever is acknowledged is there; what is not may be either; nothing leaks (`Stack.close` looks)."""
    stack = new_stack().start()
    stack.dockyard("busybox")
    stop = threading.Event()
    unacknowledged: set[str] = set()

    def work(number: int) -> None:
        for index in range(8):
            name = f"job{number}x{index}"
            created = stack.docker("create", "--name", name, "busybox", "sh", "-c", f"exit {number}", check=False)
            if created.returncode:
                unacknowledged.add(name)
                continue
            assert stack.docker("inspect", name, check=False, timeout=60).returncode == 0, name
            if stack.docker("start", name, check=False).returncode == 0:
                # the connection of a killed API worker breaks: that one is allowed to
                until(lambda name=name: stack.docker("wait", name, check=False).stdout == f"{number}\n", 60)
            until(lambda name=name: gone(stack, name), 60)

    def gone(stack: Any, name: str) -> bool:
        removed = stack.docker("rm", "-f", name, check=False)
        return removed.returncode == 0 or "No such container" in removed.stderr

    def havoc() -> None:
        for service in ["engine", "execdriver", "netdriver", "graphdriver", "apiserver"] * 2:
            if stop.wait(0.7):
                return
            for pid in stack.pids(service):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    workers = [threading.Thread(target=work, args=(n,)) for n in range(1, 5)]
    killer = threading.Thread(target=havoc)
    for thread in (*workers, killer):
        thread.start()
    for thread in workers:
        thread.join(240)
        assert not thread.is_alive()
    stop.set()
    killer.join()
    assert set(stack.out("ps", "-a", "--format", "{{.Names}}").split()) <= unacknowledged
