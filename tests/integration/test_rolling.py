"""API workers come and go under a load: no request fails, no stream breaks within its grace."""

from __future__ import annotations

import http.client
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api import Connection, request
from tests.integration.conftest import Stack, until

pytestmark = pytest.mark.root

CLIENTS = 8
MOVES = (
    ("restart", "apiserver"),
    ("scale", "apiserver", "8"),
    ("scale", "apiserver", "1"),
    ("scale", "apiserver", "2"),
)


@pytest.fixture(scope="module")
def shared_stack() -> Iterator[Stack]:
    """One whose streams have a grace that no slow machine exceeds."""
    stack = Stack(Path(tempfile.mkdtemp(prefix="dy", dir="/tmp")), DOCKYARD_STREAM_GRACE="600")
    stack.start()
    stack.dockyard("busybox")
    yield stack
    stack.close()


class Load:
    """``CLIENTS`` threads; half keep their connection while they may, half make one for each request."""

    def __init__(self, stack: Stack) -> None:
        self.answers = 0
        self.failures: list[str] = []
        self._stack, self._done = stack, threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(index % 2 == 0,)) for index in range(CLIENTS)]

    def _run(self, keeps: bool) -> None:
        connection = Connection(self._stack)
        while not self._done.is_set():
            for path in ("/_ping", "/v1.51/containers/json?all=1", "/version"):
                try:
                    connection.request("GET", path)
                    answer = connection.getresponse()
                    answer.read()
                    self.answers += 1
                    if answer.status != 200:
                        self.failures.append(f"{path}: {answer.status}")
                except (OSError, http.client.HTTPException) as error:
                    self.failures.append(f"{path}: {error!r}")
                    connection.close()
                if not keeps:
                    connection.close()
        connection.close()

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(60)


@contextmanager
def stream(stack: Stack, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        ["docker", *words], env=stack.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def test_no_request_fails_while_workers_are_replaced_and_scaled(stack: Stack) -> None:
    before = set(stack.pids("apiserver"))
    with Load(stack) as load:
        until(lambda: load.answers > 100)
        for words in MOVES:
            stack.dockyard(*words)
            answered = load.answers
            until(lambda answered=answered: load.answers > answered + 50)
    assert load.failures == []
    until(lambda: len(stack.pids("apiserver")) == len(before), 60)  # who leaves may take its grace
    assert not before & set(stack.pids("apiserver"))


def test_streams_of_a_leaving_worker_go_on(stack: Stack) -> None:
    """What a container says after each move reaches who followed it before: events, logs, attach, wait."""
    script = "while read line; do [ $line = end ] && exit 7; echo got $line; done"
    stack.docker("run", "-di", "--name", "talker", "busybox", "sh", "-c", script)
    with (
        stream(stack, "logs", "-f", "talker") as logs,
        stream(stack, "events", "--filter", "event=die") as events,
        stream(stack, "wait", "talker") as wait,
        stream(stack, "attach", "talker") as attach,
    ):
        assert attach.stdin and attach.stdout and logs.stdout and events.stdout and wait.stdout
        attach.stdin.write("before\n")
        attach.stdin.flush()
        assert attach.stdout.readline() == logs.stdout.readline() == "got before\n"
        until(lambda: len(stack.docker("ps", "-q").stdout.split()) == 1)
        for number, words in enumerate(MOVES):
            stack.dockyard(*words)
            attach.stdin.write(f"after {number}\n")
            attach.stdin.flush()
            assert attach.stdout.readline() == logs.stdout.readline() == f"got after {number}\n"
        attach.stdin.write("end\n")
        attach.stdin.flush()
        assert wait.stdout.readline() == "7\n"
        assert "talker" in events.stdout.readline()


def test_docker_ps_never_fails_while_workers_come_and_go(stack: Stack) -> None:
    """The command itself, which makes a new connection each time: none is refused, and none waits for nothing."""
    done, failures = threading.Event(), []
    answers = 0

    def ps() -> None:
        nonlocal answers
        while not done.is_set():
            result = stack.docker("ps", "-q", check=False)
            answers += 1
            if result.returncode:
                failures.append(result.stderr)

    thread = threading.Thread(target=ps)
    thread.start()
    try:
        for count in ("8", "2"):
            stack.dockyard("scale", "apiserver", count)
            answered = answers
            until(lambda answered=answered: answers > answered + 2)
            until(lambda count=count: len(stack.pids("apiserver")) == int(count), 60)
    finally:
        done.set()
        thread.join(60)
    assert failures == []


def test_a_stream_ends_with_its_grace(new_stack: Any) -> None:
    stack = new_stack(DOCKYARD_STREAM_GRACE="1")
    stack.start()
    old = set(stack.pids("apiserver"))
    connection = Connection(stack)
    connection.request("GET", "/events")
    events = connection.getresponse()
    assert events.status == 200
    stack.dockyard("restart", "apiserver")
    until(lambda: not old & set(stack.pids("apiserver")))
    with pytest.raises(http.client.IncompleteRead):
        events.read()
    connection.close()
    assert request(stack, "GET", "/containers/json") == (200, [])
