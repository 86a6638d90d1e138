"""docker tag."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.root


def names(stack: Any) -> set[str]:
    return set(stack.out("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines())


def test_names_of_every_kind_are_one_image(stack: Any) -> None:
    image = stack.out("images", "-q", "--no-trunc", "busybox")
    wanted = {"copy:latest", "copy:1.0_a-b", "user/copy:latest", "127.0.0.1:5000/deep/er/copy:v2", "host.test/c:latest"}
    for name in wanted:
        stack.docker("tag", "busybox", name.removesuffix(":latest"))
    assert names(stack) == {"busybox:latest", *wanted}
    assert set(stack.out("images", "-q", "--no-trunc").split()) == {image}
    assert stack.out("run", "--rm", "127.0.0.1:5000/deep/er/copy:v2", "echo", "hello") == "hello"
    stack.docker("tag", image[7:19], "by-id")
    assert set(stack.out("inspect", "-f", '{{join .RepoTags " "}}', image).split()) == names(stack)


def test_docker_hubs_names_are_short(stack: Any) -> None:
    stack.docker("tag", "busybox", "docker.io/library/copy:1")
    stack.docker("tag", "docker.io/library/busybox", "index.docker.io/user/copy")
    assert names(stack) == {"busybox:latest", "copy:1", "user/copy:latest"}


def test_a_name_moves(stack: Any) -> None:
    stack.docker("create", "--name", "maker", "busybox", "true")
    other = stack.out("commit", "maker", "moving")
    stack.docker("tag", "busybox", "moving")
    assert stack.out("images", "-q", "--no-trunc", "moving") == stack.out("images", "-q", "--no-trunc", "busybox")
    assert stack.out("images", "-q", "--no-trunc", "--filter", "dangling=true") == other


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("nobody", "x", "No such image: nobody:latest"),
        ("busybox", "Upper", "repository name"),
        ("busybox", "x:bad/tag", "invalid reference format"),
        ("busybox", "x@sha256:" + "0" * 64, "refusing to create a tag with a digest reference"),
        ("busybox", "a" * 64, "cannot specify 64-byte hexadecimal strings"),
    ],
)
def test_what_cannot_be_a_name(stack: Any, source: str, target: str, said: str) -> None:
    result = stack.docker("tag", source, target, check=False)
    assert (result.returncode, said in result.stderr) == (1, True), result.stderr
    assert names(stack) == {"busybox:latest"}
