"""A day with the docker command, by a listener that checks each answer against the specification of API 1.51."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Stack
from tests.integration.tee import Tee
from tests.specification.schemas import operation_of

RUN = ["--name", "web", "-d", "-p", "127.0.0.1::80", "-e", "A=b", "--label", "l=m", "-v", "data:/data", "--tmpfs", "/t"]
HEALTH = ["--health-cmd", "true", "--health-interval", "1s"]
SLEEP = ["busybox", "sh", "-c", "echo out; echo err >&2; sleep 600"]


@pytest.fixture
def tee(stack: Stack, tmp_path: Path) -> Iterator[Tee]:
    made = Tee(stack.directory / "tee.sock", stack.run / "docker.sock")
    before, stack.environ["DOCKER_HOST"] = stack.environ["DOCKER_HOST"], f"unix://{made.path}"
    yield made
    stack.environ["DOCKER_HOST"] = before
    made.close()
    made.path.unlink()
    assert not made.wrong, "\n".join(made.wrong)


def asked(tee: Tee) -> set[str]:
    found = (operation_of(method, path) for method, path, _ in tee.seen)
    return {f"{one.method} {one.path}" for one in found if one is not None}


def test_containers(stack: Stack, tee: Tee, tmp_path: Path) -> None:
    docker, out, archive = stack.docker, stack.out, str(tmp_path / "a.tar")
    docker("run", *RUN, *HEALTH, *SLEEP)
    for words in (
        ["ps", "-a", "--size"], ["inspect", "--size", "web"], ["top", "web"], ["logs", "web"], ["stats", "--no-stream"],
        ["exec", "web", "touch", "/x"], ["diff", "web"], ["port", "web"], ["update", "--memory", "64m", "web"],
        ["pause", "web"], ["ps"], ["inspect", "web"], ["unpause", "web"], ["rename", "web", "www"],
        ["commit", "www", "mine"],
        ["cp", "www:/etc/passwd", "-"], ["cp", "/etc/hostname", "www:/h"], ["export", "-o", archive, "www"],
        ["create", "--name", "never", "busybox"], ["inspect", "never"], ["kill", "-s", "USR1", "www"],
        ["restart", "-t", "0", "www"], ["stop", "-t", "0", "www"], ["ps", "-a"], ["inspect", "www"], ["wait", "www"],
        ["start", "www"], ["rm", "-f", "www", "never"],
    ):  # fmt: skip
        docker(*words)
    assert out("run", "--rm", "-i", "busybox", "echo", "hello") == "hello"
    docker("create", "--name", "never", "busybox")
    docker("container", "prune", "-f")
    docker("events", "--since", "0", "--until", "1s")
    for words in (["inspect", "nobody"], ["rm", "nobody"], ["run", "busybox", "/no"], ["logs", "nobody"]):
        docker(*words, check=False)
    assert {"GET /containers/{id}/stats", "PUT /containers/{id}/archive", "GET /events"} <= asked(tee)


def test_images_networks_volumes_system(stack: Stack, tee: Tee, tmp_path: Path) -> None:
    docker = stack.docker
    for words in (
        ["tag", "busybox", "other:1"], ["images", "-a", "--digests"], ["image", "inspect", "busybox"],
        ["history", "busybox"],
        ["save", "-o", str(tmp_path / "a.tar"), "busybox", "other:1"], ["rmi", "other:1"],
        ["load", "-i", str(tmp_path / "a.tar")], ["rmi", "other:1"], ["image", "prune", "-f"],
        ["network", "create", "--label", "a=b", "--subnet", "10.214.7.0/24", "net"], ["network", "ls"],
        ["run", "-d", "--name", "one", "--network", "net", "--network-alias", "uno", *SLEEP],
        ["network", "connect", "bridge", "one"], ["network", "inspect", "net", "bridge", "host", "none"],
        ["inspect", "one"], ["network", "disconnect", "bridge", "one"], ["rm", "-f", "one"],
        ["network", "rm", "net"], ["network", "prune", "-f"],
        ["volume", "create", "--label", "a=b", "vol"], ["volume", "ls"], ["volume", "inspect", "vol"],
        ["system", "df", "-v"],
        ["volume", "rm", "vol"], ["volume", "prune", "-f"], ["info"], ["version"], ["system", "df"], ["plugin", "ls"],
    ):  # fmt: skip
        docker(*words)
    for words in (["node", "ls"], ["service", "ls"], ["swarm", "leave"], ["swarm", "init"], ["secret", "ls"],
                  ["network", "rm", "bridge"], ["rmi", "nothing"], ["volume", "inspect", "x"],
                  ["plugin", "inspect", "x"],
                  ["stack", "ls"], ["config", "ls"]):  # fmt: skip
        docker(*words, check=False)
    assert {"POST /images/load", "GET /system/df", "GET /networks/{id}"} <= asked(tee)
