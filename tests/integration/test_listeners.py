"""Several listeners at once, each with its policy; who asked is in the job journal."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from tests.integration.conftest import Stack

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    directory = Path(mkdtemp(prefix="dy", dir="/tmp"))
    run = directory / "run"
    hosts = [
        f"unix://{run}/docker.sock", f"unix://{run}/ro.sock?policy=read-only&mode=666",
        f"unix://{run}/few.sock?allow=GET:/containers/json&allow=GET:/events&group=12", "tcp://127.0.0.1:2375",
    ]  # fmt: skip
    made = Stack(directory, DOCKYARD_HOSTS=",".join(hosts))
    made.start()
    made.dockyard("busybox")
    yield made
    made.close()


def docker(stack: Stack, listener: str, *words: str) -> Any:
    return stack.docker(f"--host=unix://{stack.run}/{listener}.sock", *words, check=False)


def test_a_read_only_listener(stack: Stack) -> None:
    for words in (["ps", "-a"], ["images"], ["info"], ["version"], ["network", "inspect", "bridge"], ["system", "df"]):
        assert docker(stack, "ro", *words).returncode == 0
    for words in (
        ["run", "busybox"],
        ["pull", "x"],
        ["volume", "create"],
        ["rmi", "busybox"],
        ["system", "prune", "-f"],
    ):
        refused = docker(stack, "ro", *words)
        assert refused.returncode
        assert "this listener's policy does not allow it" in refused.stderr


def test_an_allow_list(stack: Stack) -> None:
    assert docker(stack, "few", "ps").returncode == docker(stack, "few", "version").returncode == 0
    assert "policy does not allow it" in docker(stack, "few", "images").stderr


def test_modes_and_groups(stack: Stack) -> None:
    found = {name: (stack.run / f"{name}.sock").stat() for name in ("docker", "ro", "few")}
    assert {name: stat.S_IMODE(one.st_mode) for name, one in found.items()} == {
        "docker": 0o660,
        "ro": 0o666,
        "few": 0o660,
    }
    assert found["few"].st_gid == 12


def test_the_journal_tells_for_whom_a_job_was_called(stack: Stack) -> None:
    stack.docker("volume", "create", "by-unix")
    assert stack.process is not None
    inside = ["nsenter", f"--net=/proc/{stack.process.pid}/ns/net"]
    over_tcp = "docker --host=tcp://127.0.0.1:2375 volume create by-tcp"
    os.system(" ".join([*inside, over_tcp]))
    stack.docker("volume", "rm", "by-unix", "by-tcp")
    jobs = json.loads(stack.dockyard("jobs", "--name", "volume_create", "--json").stdout)
    peers = {job["args"]: job["peer"] for job in jobs if not job["parent"]}
    assert peers["by-unix"].startswith("uid=0 pid=")
    assert peers["by-tcp"].startswith("127.0.0.1:")
    trace = stack.dockyard("trace", next(job["id"] for job in jobs if job["args"] == "by-unix")).stdout
    assert "for uid=0 pid=" in trace


def test_an_endpoint_that_there_is_not_ends_the_start(new_stack: Any) -> None:
    made = new_stack()
    made.environ["DOCKYARD_HOSTS"] = f"unix://{made.run}/docker.sock?allow=GET:/containers/jsn"
    made.launch()
    assert made.process.wait(60) == 78
    assert "there is no GET /containers/jsn" in made.log()
