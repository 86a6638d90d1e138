"""Streams as docker-py reads them: the head through a buffered file, what follows from the bare socket."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.integration.api import Connection, request

pytestmark = pytest.mark.root

TIMES = 20


def bare(stack: Any, path: str, body: dict[str, Any]) -> bytes:
    """Post, read the head as http.client does, and return what the socket gives after that."""
    connection = Connection(stack)
    headers = {"Connection": "Upgrade", "Upgrade": "tcp", "Content-Type": "application/json"}
    connection.request("POST", path, json.dumps(body), headers)
    sock: socket.socket = connection.sock
    answer = connection.response_class(sock, method="POST")
    answer.begin()
    assert answer.status == 101
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
    answer.close()
    connection.close()
    return data


@pytest.mark.parametrize("tty", [False, True])
def test_the_output_of_an_exec_never_comes_with_the_head(stack: Any, tty: bool) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sleep", "1d")
    for _ in range(TIMES):
        config = {"AttachStdout": True, "AttachStderr": True, "Tty": tty, "Cmd": ["echo", "hello"]}
        _, made = request(stack, "POST", "/containers/web/exec", config)
        output = bare(stack, f"/exec/{made['Id']}/start", {"Detach": False, "Tty": tty})
        assert output == (b"hello\r\n" if tty else b"\x01\0\0\0\0\0\0\x06hello\n")


def test_that_a_command_cannot_run_never_comes_with_the_head(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sleep", "1d")
    for _ in range(TIMES):
        _, made = request(stack, "POST", "/containers/web/exec", {"AttachStdout": True, "Cmd": ["nowhere"]})
        assert b"executable file not found" in bare(stack, f"/exec/{made['Id']}/start", {})


def test_earlier_output_never_comes_with_the_head_of_an_attach(stack: Any) -> None:
    stack.docker("run", "--name", "web", "busybox", "echo", "hello")
    for _ in range(TIMES):
        output = bare(stack, "/containers/web/attach?logs=1&stdout=1&stream=0", {})
        assert output == b"\x01\0\0\0\0\0\0\x06hello\n"
