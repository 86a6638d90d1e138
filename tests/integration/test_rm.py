"""docker rm and docker rename."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.root


def test_by_name_id_and_prefix(stack: Any) -> None:
    stack.docker("create", "--name", "named", "busybox", "true")
    whole, prefix = (stack.out("create", "busybox", "true") for _ in range(2))
    assert stack.out("rm", "named", whole, prefix[:12]) == f"named\n{whole}\n{prefix[:12]}"
    assert stack.out("ps", "-aq") == ""


def test_one_that_runs_must_be_forced(stack: Any) -> None:
    container = stack.out("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    result = stack.docker("rm", "web", check=False)
    assert result.returncode == 1
    assert (
        'cannot remove container "web": container is running: stop the container before removing or force remove'
        in (result.stderr)
    )
    stack.docker("pause", "web")
    assert "container is paused and must be unpaused first" in stack.docker("rm", "web", check=False).stderr
    assert stack.out("rm", "-f", "web") == "web"
    assert container not in stack.out("ps", "-aq", "--no-trunc")


def test_its_volumes(stack: Any) -> None:
    stack.docker("create", "--name", "one", "-v", "/anonymous", "-v", "named:/named", "busybox", "true")
    stack.docker("create", "--name", "two", "-v", "/kept", "busybox", "true")
    stack.docker("rm", "-v", "one")
    stack.docker("rm", "two")
    volumes = stack.out("volume", "ls", "-q").split()
    assert "named" in volumes
    assert len(volumes) == 2


def test_of_none(stack: Any) -> None:
    result = stack.docker("rm", "nobody", check=False)
    said = stack.missing("container", "nobody", "No such container: nobody")
    assert (result.returncode, result.stderr) == (1, f"{said}\n")
    assert stack.docker("rm", "-f", "nobody").stderr == f"{said}\n"


def test_rename(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "old", "busybox", "sleep", "1000")
    stack.docker("rename", "old", "new")
    assert stack.out("ps", "--format", "{{.Names}}") == "new"
    stack.docker("create", "--name", "old", "busybox", "true")  # the name is free again


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["one", "two"], 'Conflict. The container name "/two" is already in use by container'),
        (["one", "one"], "Renaming a container with the same name as its current name"),
        (["one", "b@d"], "Invalid container name (b@d), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        (["nobody", "three"], "No such container: nobody"),
    ],
)
def test_what_cannot_be_renamed(stack: Any, names: list[str], said: str) -> None:
    for name in ("one", "two"):
        stack.docker("create", "--name", name, "busybox", "true")
    result = stack.docker("rename", *names, check=False)
    assert (result.returncode, said in result.stderr) == (1, True), result.stderr
    assert sorted(stack.out("ps", "-a", "--format", "{{.Names}}").split()) == ["one", "two"]
