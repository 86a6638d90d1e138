"""`docker image prune`, `--platform`, and what cannot be an image's name."""

from __future__ import annotations

import json
import re
import select
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api import Connection

pytestmark = pytest.mark.root


def made(stack: Any, script: str, *name: str) -> str:
    """Make an image of its own layer; returns its id."""
    stack.docker("run", "--name", "maker", "busybox", "sh", "-c", script)
    image = stack.out("commit", "maker", *name)
    stack.docker("rm", "maker")
    return str(image)


def left(stack: Any) -> set[str]:
    return set(stack.out("images", "-aq", "--no-trunc").split())


def test_prune_removes_what_has_no_name_and_then_all_that_is_not_used(stack: Any) -> None:
    named = made(stack, "head -c 100000 /dev/zero > /named", "named")
    dangling = made(stack, "head -c 300000 /dev/zero > /dangling")
    said = stack.out("image", "prune", "--force")
    assert f"deleted: {dangling}" in said
    assert re.search(r"Total reclaimed space: 3\d\d(\.\d+)?kB", said)
    assert dangling not in left(stack)
    stack.docker("create", "--name", "user", "busybox")
    said = stack.out("image", "prune", "--force", "--all", "--filter", "until=1h")
    assert "named" not in said
    said = stack.out("image", "prune", "--force", "--all")
    assert "untagged: named:latest" in said
    assert f"deleted: {named}" in said
    assert left(stack) == {stack.out("image", "inspect", "--format", "{{.Id}}", "busybox")}
    assert stack.out("run", "--rm", "busybox", "echo", "still here") == "still here"


def test_an_image_for_another_platform_is_not_run(stack: Any) -> None:
    refused = stack.docker("create", "--pull", "never", "--platform", "linux/s390x", "busybox", check=False)
    assert "was found but does not match the specified platform: wanted linux/s390x, actual: linux/" in refused.stderr
    machine = stack.out("image", "inspect", "--format", "{{.Os}}/{{.Architecture}}", "busybox")
    assert stack.out("run", "--rm", "--platform", machine, "busybox", "echo", "hello") == "hello"


def test_an_image_for_another_platform_is_not_shown_nor_saved(stack: Any, tmp_path: Path) -> None:
    stack.needs(28, "--platform of save, load and history")
    machine = stack.out("image", "inspect", "--format", "{{.Os}}/{{.Architecture}}", "busybox")
    file = str(tmp_path / "busybox.tar")
    commands = (("save", "-o", file, "--platform"), ("history", "--platform"))
    for command in commands:
        refused = stack.docker(*command, "linux/s390x", "busybox", check=False)
        assert "was found but does not match the specified platform: wanted linux/s390x" in refused.stderr
        stack.docker(*command, machine, "busybox")
    assert (
        "no image for linux/s390x" in stack.docker("load", "-i", file, "--platform", "linux/s390x", check=False).stderr
    )
    assert stack.out("load", "-i", file, "--platform", machine) == "Loaded image: busybox:latest"


@pytest.mark.parametrize(
    ("platform", "shown"),
    [
        ("linux/aarch64", "linux/arm64/"),
        ("arm64", "linux/arm64/"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("armhf", "linux/arm/v7"),
        ("windows/amd64", "operating system is not supported"),
        ("bogus", '"bogus": unknown operating system or architecture: invalid argument'),
    ],
)
def test_the_platform_of_an_import(stack: Any, tmp_path: Path, platform: str, shown: str) -> None:
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    imported = stack.docker("import", "--platform", platform, str(tmp_path / "empty.tar"), "imported", check=False)
    if imported.returncode:
        assert imported.stderr.strip() == f"Error response from daemon: {shown}"
        return
    assert stack.out("image", "inspect", "-f", "{{.Os}}/{{.Architecture}}/{{.Variant}}", "imported") == shown


def test_inspect_goes_on_after_what_cannot_be_an_image(stack: Any) -> None:
    stack.docker("volume", "create", "Data")
    try:
        assert stack.out("inspect", "--format", "{{.Name}}", "Data") == "Data"
    finally:
        stack.docker("volume", "rm", "Data")


def test_an_image_that_is_removed_by_force_is_gone_and_its_container_is_not(stack: Any) -> None:
    image = made(stack, "head -c 3000000 /dev/zero > /big; echo kept > /file", "forced")
    stack.docker("create", "--name", "user", "forced", "cat", "/file")
    assert "must be forced" in stack.docker("rmi", "forced", check=False).stderr
    assert stack.out("rmi", "-f", image).splitlines() == ["Untagged: forced:latest", f"Deleted: {image}"]
    assert image not in left(stack)
    assert stack.docker("image", "inspect", image, check=False).returncode == 1
    assert stack.out("ps", "-a", "--no-trunc", "--format", "{{.Image}}") == image
    assert stack.out("start", "-a", "user") == "kept"
    layers = set((stack.root / "graph/overlay").iterdir())
    copied = stack.out("commit", "user", "copied")
    stack.docker("rm", "user")
    assert stack.out("run", "--rm", "copied", "cat", "/file") == "kept"
    stack.docker("rmi", copied)
    assert len(layers - set((stack.root / "graph/overlay").iterdir())) == 1  # big's


def test_a_load_is_answered_when_the_archive_has_come(stack: Any, tmp_path: Path) -> None:
    """Some clients take the head of the answer for its end, and send no more of the archive."""
    stack.docker("save", "-o", str(tmp_path / "saved.tar"), "busybox")
    archive = (tmp_path / "saved.tar").read_bytes()
    connection = Connection(stack)
    connection.putrequest("POST", "/images/load?quiet=1")
    connection.putheader("Content-Length", str(len(archive)))
    connection.endheaders(archive[:-1024])
    assert not select.select([connection.sock], [], [], 0.3)[0]
    connection.send(archive[-1024:])
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())) == (200, {"stream": "Loaded image: busybox:latest\n"})
    connection.request("POST", "/images/load", b"no archive")
    answer = connection.getresponse()
    assert answer.status == 200  # as dockerd has it: errors are told in the stream
    assert "invalid" in json.loads(answer.read())["error"]
    connection.close()
