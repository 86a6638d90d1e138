"""docker port, and what is published."""

from __future__ import annotations

import re
from typing import Any

import pytest

pytestmark = pytest.mark.root


def test_a_published_port_is_in_inspect_when_start_returns(stack: Any) -> None:
    stack.docker("run", "-d", "-p", "127.0.0.1::80", "--name", "published", "busybox", "httpd", "-f", "-p", "80")
    assert re.fullmatch(r"127\.0\.0\.1:\d+", stack.out("port", "published", "80"))


def test_all_of_a_container_and_one_of_them(stack: Any) -> None:
    ports = ["-p", "127.0.0.1:18080:80", "-p", "127.0.0.1:18053:53/udp", "--expose", "99"]
    stack.docker("run", "-d", "--name", "web", *ports, "busybox", "sleep", "1000")
    assert sorted(stack.out("port", "web").splitlines()) == [
        "53/udp -> 127.0.0.1:18053", "80/tcp -> 127.0.0.1:18080",
    ]  # fmt: skip
    assert stack.out("port", "web", "80") == stack.out("port", "web", "80/tcp") == "127.0.0.1:18080"
    missing = stack.docker("port", "web", "99", check=False)
    said = "No public port '99/tcp' published for web" if stack.client < 23 else "No public port '99' published for web"
    assert (missing.returncode, said in missing.stderr) == (1, True), missing.stderr
    shown = stack.out("ps", "--format", "{{.Ports}}")
    assert set(shown.split(", ")) == {"99/tcp", "127.0.0.1:18080->80/tcp", "127.0.0.1:18053->53/udp"}


def test_a_port_that_is_taken(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "first", "-p", "127.0.0.1:18080:80", "busybox", "sleep", "1000")
    second = stack.docker("run", "--name", "second", "-p", "127.0.0.1:18080:80", "busybox", "true", check=False)
    assert second.returncode == 125
    assert "port is already allocated" in second.stderr
    assert stack.out("inspect", "-f", "{{.State.Status}}", "second") == "created"
    stack.docker("rm", "-f", "first")
    stack.docker("start", "second")


def test_a_stopped_one_has_none(stack: Any) -> None:
    stack.docker("create", "--name", "web", "-p", "80", "busybox", "true")
    assert stack.out("port", "web") == ""
