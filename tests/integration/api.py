"""The API as a program calls it: HTTP on the stack's unix socket."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

from tests.specification.schemas import violations

__all__ = ["Connection", "hijack", "request", "run"]


class Connection(http.client.HTTPConnection):
    def __init__(self, stack: Any) -> None:
        super().__init__("localhost", timeout=30)
        self.path = str(stack.run / "docker.sock")

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(self.path)


def request(stack: Any, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Return status and decoded body (None if it is empty). The answer is as the specification says, or this fails."""
    connection = Connection(stack)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        data = answer.read()
        assert not (wrong := violations(method, path, answer.status, answer.headers["Content-Type"], data)), wrong
        return answer.status, json.loads(data) if data else None
    finally:
        connection.close()


def hijack(stack: Any, path: str, body: Any = None) -> socket.socket:
    """Ask for a raw stream, as attach and exec give it; returns the connection when the head of the answer is read."""
    data = json.dumps(body or {}).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: docker", "Connection: Upgrade", "Upgrade: tcp"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    connection = Connection(stack)
    connection.connect()
    connection.sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.sock.recv(1)
        assert byte, head
        head += byte
    assert head.startswith(b"HTTP/1.1 101 "), head
    return connection.sock


def run(stack: Any, script: str, host_config: dict[str, Any], **config: Any) -> str:
    """Run a shell script to its end in a container of its own; returns what it printed, both streams together."""
    body = {"Image": "busybox", "Cmd": ["sh", "-c", script], "Tty": True, **config, "HostConfig": host_config}
    status, made = request(stack, "POST", "/containers/create", body)
    assert status == 201, made
    container = made["Id"]
    try:
        status, error = request(stack, "POST", f"/containers/{container}/start")
        assert status == 204, error
        request(stack, "POST", f"/containers/{container}/wait")
        return str(stack.out("logs", container)).replace("\r", "")
    finally:
        request(stack, "DELETE", f"/containers/{container}?force=1")
