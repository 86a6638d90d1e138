"""What `docker run --mount type=image` mounts: the files of an image, read-only, as long as a container needs them."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from tests.integration.api import request
from tests.integration.conftest import Stack, until

pytestmark = pytest.mark.root


@pytest.fixture
def tools(stack: Stack) -> str:
    """An image `tools` with /tools/say and /tools/deep/file on top of busybox; returns its id."""
    made = stack.out(
        "create", "busybox", "sh", "-c", "mkdir -p /tools/deep; echo hi >/tools/say; echo in >/tools/deep/file"
    )
    stack.docker("start", "-a", made)
    stack.docker("commit", made, "tools")
    stack.docker("rm", made)
    return stack.out("inspect", "-f", "{{.Id}}", "tools")


def create(stack: Stack, name: str, command: str, *mounts: dict[str, Any], **host_config: Any) -> tuple[int, Any]:
    body = {"Image": "busybox", "Cmd": ["sh", "-c", command], "HostConfig": {"Mounts": mounts, **host_config}}
    return request(stack, "POST", f"/containers/create?name={name}", body)


def image_mount(target: str = "/t", source: str = "tools", **fields: Any) -> dict[str, Any]:
    return {"Type": "image", "Source": source, "Target": target, **fields}


def mounted_images(stack: Stack) -> list[str]:
    return sorted(path.name for path in (stack.run / "images").glob("*"))


def test_its_files_are_there_and_cannot_be_changed(stack: Stack, tools: str) -> None:
    deep = image_mount("/d", ImageOptions={"Subpath": "tools/deep"})
    command = "cat /t/tools/say /d/file; touch /t/new; echo $?"
    status, _ = create(stack, "web", command, image_mount(), deep)
    assert status == 201
    shown = json.loads(stack.out("inspect", "-f", "{{json .Mounts}}", "web"))
    assert [(m["Type"], m["Name"], m["Destination"], m["RW"]) for m in shown] == [
        ("image", "tools", "/t", False),
        ("image", "tools", "/d", False),
    ]
    said = stack.docker("start", "-a", "web")
    assert said.stdout == "hi\nin\n1\n"
    assert "Read-only file system" in said.stderr
    until(lambda: not mounted_images(stack))
    assert stack.out("volume", "ls", "-q") == ""
    stack.docker("rm", "web")


def test_the_command_line_has_it(stack: Stack, tools: str) -> None:
    told = stack.docker(
        "run", "--rm", "--mount", "type=image,src=tools,dst=/t", "busybox", "cat", "/t/tools/say", check=False
    )
    if stack.client < 28:  # its API has none
        assert 'Mount type "Image" needs API v1.48 or newer' in told.stderr
    else:
        assert told.stdout == "hi\n", told.stderr


def test_the_image_is_in_use(stack: Stack, tools: str) -> None:
    create(stack, "web", "sleep 1000", image_mount())
    refused = stack.docker("rmi", "tools", check=False)
    assert "is using its referenced image" in refused.stderr
    stack.docker("start", "web")
    assert stack.docker("rmi", "-f", tools, check=False).returncode == 1
    stack.docker("rmi", "-f", "tools")  # the name alone
    stack.docker("image", "prune", "-f")
    stack.docker("restart", "-t", "0", "web")
    assert stack.out("exec", "web", "cat", "/t/tools/say") == "hi"
    stack.docker("rm", "-f", "web")
    assert not mounted_images(stack)
    stack.docker("image", "prune", "-f")
    assert stack.docker("inspect", tools, check=False).returncode == 1


def test_two_containers_and_a_third_that_takes_their_volumes(stack: Stack, tools: str) -> None:
    create(stack, "one", "sleep 1000", image_mount())
    create(stack, "two", "sleep 1000", image_mount("/other"))
    create(stack, "three", "sleep 1000", VolumesFrom=["two"])
    stack.docker("start", "one", "two", "three")
    assert mounted_images(stack) == [tools.removeprefix("sha256:")]
    assert stack.out("exec", "three", "cat", "/other/tools/say") == "hi"
    stack.docker("rm", "-f", "one", "two")
    assert stack.out("exec", "three", "cat", "/other/tools/say") == "hi"
    stack.docker("rm", "-f", "three")
    assert not mounted_images(stack)


def test_it_outlives_the_graphdriver_and_the_engine(stack: Stack, tools: str) -> None:
    create(stack, "web", "sleep 1000", image_mount())
    stack.docker("start", "web")
    for service in ("graphdriver", "engine"):
        (pid,) = stack.pids(service)
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid, service=service: stack.pids(service) not in ([], [pid]))
        assert stack.out("exec", "web", "cat", "/t/tools/say") == "hi"
    assert mounted_images(stack) == [tools.removeprefix("sha256:")]
    stack.docker("rm", "-f", "web")
    until(lambda: not mounted_images(stack))


def test_what_is_refused(stack: Stack, tools: str) -> None:
    assert create(stack, "web", "true", image_mount(source="nothing")) == (
        400, {"message": "No such image: nothing:latest"},
    )  # fmt: skip
    wrong = image_mount(ImageOptions={"Subpath": "../x"})
    text = 'invalid mount config for type "image": subpath must be a relative path within the image'
    assert create(stack, "web", "true", wrong) == (400, {"message": text})
    create(stack, "web", "true", image_mount(ImageOptions={"Subpath": "nowhere"}))
    failed = stack.docker("start", "web", check=False)
    assert failed.returncode == 1
    assert "cannot access path" in failed.stderr
    stack.docker("rm", "web")
    until(lambda: not mounted_images(stack))
