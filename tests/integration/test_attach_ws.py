"""Attach by WebSocket: GET /containers/{id}/attach/ws."""

from __future__ import annotations

import json
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from tests.integration.conftest import until

pytestmark = pytest.mark.root
ECHO = "echo ready; while read x; do echo got $x; echo bad $x >&2; done; echo end"


class Socket:
    """A WebSocket client on the stack's unix socket. ``refused``: the status and message if it was not let in."""

    def __init__(self, stack: Any, path: str, **headers: str) -> None:
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.settimeout(20)
        self.connection.connect(f"{stack.run}/docker.sock")
        self.protocol = WSConnection(ConnectionType.CLIENT)
        extra = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.say(Request(host="docker", target=path, extra_headers=extra))
        self.refused: tuple[int, str] | None = None
        self.events = self._events()
        first = next(self.events)
        if isinstance(first, RejectConnection):
            body = b"".join(event.data for event in self.events if isinstance(event, RejectData))
            self.refused = (first.status_code, json.loads(body)["message"])
        else:
            assert isinstance(first, AcceptConnection)

    def _events(self) -> Iterator[Any]:
        while data := self.connection.recv(65536):
            self.protocol.receive_data(data)
            for event in self.protocol.events():
                yield event
                if isinstance(event, CloseConnection) or (isinstance(event, RejectData) and event.body_finished):
                    return

    def say(self, event: Any) -> None:
        self.connection.sendall(self.protocol.send(event))

    def type(self, text: str) -> None:
        self.say(BytesMessage(data=text.encode()))

    def read(self, wanted: str, kind: Any = BytesMessage) -> str:
        """Return what comes up to ``wanted``."""
        said = ""
        while wanted not in said:
            event = next(self.events)
            assert isinstance(event, kind), (said, event)
            said += event.data if isinstance(event.data, str) else event.data.decode()
        return said

    def end(self) -> int:
        """Return the code of the close that comes next."""
        event = next(self.events)
        assert isinstance(event, CloseConnection), event
        return int(event.code)


@pytest.fixture
def attach(stack: Any) -> Iterator[Any]:
    made: list[Socket] = []

    def connect(query: str, version: str = "", **headers: str) -> Socket:
        made.append(Socket(stack, f"{version}/containers/web/attach/ws?{query}", **headers))
        return made[-1]

    yield connect
    for client in made:
        client.connection.close()


@pytest.fixture
def web(stack: Any) -> Any:
    stack.docker("run", "-d", "-i", "--name", "web", "busybox", "sh", "-c", ECHO)
    until(lambda: stack.docker("logs", "web").stdout == "ready\n")
    return stack


def test_both_ways(web: Any, attach: Any) -> None:
    client = attach("stream=1&stdin=1&stdout=1&stderr=1")
    client.type("one\n")
    assert sorted(client.read("bad one\n").split("\n")) == ["", "bad one", "got one"]
    web.docker("kill", "web")
    assert client.end() == 1000


def test_only_the_streams_that_are_asked_for(web: Any, attach: Any) -> None:
    client, errors, deaf = attach("stream=1&stdin=1&stdout=1"), attach("stream=1&stderr=1"), attach("stream=1&stdout=1")
    for listener in (client, errors, deaf):  # they may be let in a moment later
        until(lambda by=listener: client.type("one\n") or select.select([by.connection], [], [], 0.5)[0])
    deaf.type("not for the container\n")
    client.type("last\n")
    for listener, words in ((client, "got"), (errors, "bad"), (deaf, "got")):
        assert set(listener.read("last\n").splitlines()) <= {f"{words} one", f"{words} last"}


def test_logs_come_first_and_unframed(web: Any, attach: Any) -> None:
    client = attach("logs=1&stream=1&stdin=1&stdout=1&stderr=1")
    assert client.read("ready\n") == "ready\n"
    client.type("on\n")
    client.read("got on\n")
    assert attach("logs=1&stdout=1").read("got on\n") == "ready\ngot on\n"


def test_a_client_that_goes_leaves_the_container_running(web: Any, attach: Any) -> None:
    for close in (True, False):
        client = attach("stream=1&stdin=1&stdout=1")
        client.type("hello\n")
        client.read("got hello\n")
        if close:
            client.say(CloseConnection(code=1000))
            assert client.end() == 1000
        client.connection.close()
    other = attach("stream=1&stdin=1&stdout=1")
    other.type("still there\n")
    assert other.read("there\n") == "got still there\n"


def test_a_terminal_and_its_detach_keys(stack: Any, attach: Any) -> None:
    stack.docker("create", "-it", "--name", "web", "busybox", "sh")
    client = attach("stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,d")  # before the start
    stack.docker("start", "web")
    client.type("echo $((6 * 7))\n")
    client.read("42\r\n")
    client.type("\x01d")
    while not isinstance(event := next(client.events), CloseConnection):
        assert isinstance(event, BytesMessage)
    assert stack.out("inspect", "-f", "{{.State.Running}}", "web") == "true"


def test_large_output_and_input(stack: Any, attach: Any) -> None:
    size = 3_000_000
    script = f"head -c {size} | wc -c; head -c {size} /dev/zero"
    stack.docker("create", "-i", "--name", "web", "busybox", "sh", "-c", script)
    client = attach("stream=1&stdin=1&stdout=1")
    stack.docker("start", "web")
    for _ in range(size // 100_000):
        client.type("x" * 100_000)
    _, _, begun = client.read(f"{size}\n").partition("\n")  # a message holds what was there, of both commands maybe
    came = len(begun)
    for event in client.events:
        came += len(event.data) if isinstance(event, BytesMessage) else 0
    assert came == size


def test_of_older_clients(web: Any, attach: Any) -> None:
    """Before 1.42 all streams were attached, whatever was asked; before 1.28 with text messages."""
    client = attach("stream=1", "/v1.41")
    client.type("one\n")
    assert sorted(client.read("bad one\n").split("\n")) == ["", "bad one", "got one"]
    client = attach("stream=1", "/v1.27")
    client.type("two\n")
    assert "got two\n" in client.read("bad two\n", TextMessage)


def test_refusals(web: Any, attach: Any, stack: Any) -> None:
    assert attach("stream=1", Origin="https://example.com").refused[0] == 403
    assert attach("stream=1", Origin="http://docker").refused is None
    assert attach("stream=1&detachKeys=nonsense").refused[0] == 400
    web.docker("pause", "web")
    assert attach("stream=1").refused[0] == 409
    web.docker("rm", "-f", "web")
    assert attach("stream=1").refused == (404, "No such container: web")
    plain = socket.socket(socket.AF_UNIX)
    with plain:
        plain.connect(f"{stack.run}/docker.sock")
        plain.sendall(b"GET /containers/web/attach/ws HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
        assert b" 400 Bad Request" in plain.recv(65536)


def test_connections_are_not_kept(web: Any, attach: Any) -> None:
    workers = web.pids("apiserver")

    def open_files() -> int:
        return sum(len(list(Path(f"/proc/{worker}/fd").iterdir())) for worker in workers)

    attach("stream=1&stdout=1").connection.close()
    before = open_files()
    for _ in range(10):
        attach("stream=1&stdout=1").connection.close()
    until(lambda: open_files() <= before + 2)
