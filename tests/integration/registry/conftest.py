"""A stack as shipped, and beside it Debian's docker-registry, or a small server that does as it is told."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.integration.conftest import Stack, until
from tests.registries import Scripted, docker_registry, scripted

PORT = 5000


@pytest.fixture(scope="module")
def beside(shared_stack: Stack) -> list[str]:
    assert shared_stack.process is not None
    return ["nsenter", "--net", "--target", str(shared_stack.process.pid)]


@pytest.fixture(scope="module")
def registry(shared_stack: Stack, beside: list[str]) -> Iterator[str]:
    with docker_registry(shared_stack.directory / "registry", port=PORT, inside=beside) as host:
        yield host


@pytest.fixture
def served(shared_stack: Stack) -> Iterator[Scripted]:
    assert shared_stack.process is not None
    with scripted(network_of=shared_stack.process.pid) as served:
        yield served


@pytest.fixture
def clean(stack: Stack) -> Iterator[Stack]:
    """A stack with busybox and an image `mine` made of it; at the end nothing but busybox may be in its store."""
    before = stored(stack)
    made = stack.out("create", "busybox", "sh")
    stack.docker("commit", "--change", 'CMD ["sh"]', made, "mine")
    stack.docker("rm", made)
    yield stack
    stack.docker("rm", "-f", *stack.out("ps", "-aq").split(), check=False)
    for line in stack.out("images", "-a", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines():
        ref, image = line.split()
        if ref != "busybox:latest":
            stack.docker("rmi", "-f", image if "<none>" in ref else ref, check=False)
    until(lambda: stored(stack) == before, what=f"left behind: {stored(stack) ^ before}")


def stored(stack: Stack) -> set[str]:
    graph = stack.root / "graph"
    return {f"{d}/{p.name}" for d in ("blobs/sha256", "overlay", "vfs", "tmp") for p in (graph / d).glob("*")}


def put(stack: Stack, host: str, *names: str) -> str:
    """Push `mine` under names at a registry, and forget it; returns the digest."""
    for name in names:
        stack.docker("tag", "mine", f"{host}/{name}")
        pushed = stack.out("push", f"{host}/{name}")
        stack.docker("rmi", f"{host}/{name}")
    stack.docker("rmi", "mine")
    return str(re.search(r"digest: (sha256:[0-9a-f]{64}) size: \d+$", pushed)[1])  # type: ignore[index]
