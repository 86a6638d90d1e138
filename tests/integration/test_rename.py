"""docker rename."""

from __future__ import annotations

import socket
from typing import Any

import pytest

pytestmark = pytest.mark.root


def test_one_that_runs_is_found_by_its_new_name_alone(stack: Any) -> None:
    container = stack.out("run", "-d", "--name", "first", "busybox", "sleep", "1000")
    stack.docker("rename", "first", "second")
    assert stack.out("ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}") == f"{container} second"
    assert stack.out("inspect", "-f", "{{.Name}}", container) == "/second"
    assert stack.out("exec", "second", "echo", "here") == "here"
    assert "No such container: first" in stack.docker("stop", "first", check=False).stderr
    assert stack.out("create", "--name", "first", "busybox", "true")  # the old name is free


def test_by_a_prefix_of_the_id(stack: Any) -> None:
    container = stack.out("create", "busybox", "true")
    stack.docker("rename", container[:12], "named")
    assert stack.out("ps", "-a", "--format", "{{.Names}}") == "named"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("taken", 'The container name "/taken" is already in use by container'),
        ("one", "Renaming a container with the same name as its current name"),
        ("not good", "Invalid container name (not good), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
    ],
)
def test_what_cannot_be_its_name(stack: Any, name: str, said: str) -> None:
    for made in ("one", "taken"):
        stack.docker("create", "--name", made, "busybox", "true")
    result = stack.docker("rename", "one", name, check=False)
    assert (result.returncode, said in result.stderr) == (1, True), result.stderr
    assert set(stack.out("ps", "-a", "--format", "{{.Names}}").split()) == {"one", "taken"}


def test_its_name_in_a_network_changes_with_it(net: Any) -> None:
    net.docker("network", "create", "lan")
    net.docker("run", "-d", "--name", "before", "--network", "lan", "busybox", "sleep", "1000")
    net.docker("run", "-d", "--name", "asker", "--network", "lan", "busybox", "sleep", "1000")
    net.docker("rename", "before", "after")
    address = net.out("inspect", "-f", "{{.NetworkSettings.Networks.lan.IPAddress}}", "after")
    assert socket.inet_aton(address)
    assert address in net.out("exec", "asker", "nslookup", "after.")
    assert net.docker("exec", "asker", "nslookup", "before.", check=False).returncode == 1
