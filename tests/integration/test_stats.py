"""docker stats, and the API that other tools sample with."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.api import Connection, request
from tests.integration.conftest import until

pytestmark = pytest.mark.root
BUSY = ["busybox", "sh", "-c", "while :; do :; done"]


def sample(stack: Any, name: str, query: str = "stream=0&one-shot=1") -> Any:
    status, found = request(stack, "GET", f"/containers/{name}/stats?{query}")
    assert status == 200
    return found


def stream(stack: Any, name: str) -> Iterator[Any]:
    connection = Connection(stack)
    connection.request("GET", f"/containers/{name}/stats")
    answer = connection.getresponse()
    while line := answer.readline():
        yield json.loads(line)
    connection.close()


def test_docker_stats_without_a_stream(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "busy", "-m", "64m", *BUSY)
    stack.docker("create", "--name", "idle", "busybox", "true")
    rows = map(json.loads, stack.out("stats", "-a", "--no-stream", "--format", "{{json .}}").splitlines())
    shown = {row["Name"]: row for row in rows}
    assert float(shown["busy"]["CPUPerc"].rstrip("%")) > 10
    assert shown["busy"]["MemUsage"].endswith(" / 64MiB")
    assert shown["busy"]["PIDs"] == "1"
    assert shown["idle"]["CPUPerc"] == "0.00%"


def test_docker_stats_live(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sleep", "60")
    command = ["docker", "stats", "--format", "{{.Name}} {{.PIDs}}"]
    with subprocess.Popen(command, env=stack.environ, stdout=subprocess.PIPE, text=True) as process:
        lines = iter(process.stdout or [])
        until(lambda: "web 1" in next(lines), 20)
        stack.docker("run", "-d", "--name", "late", "busybox", "sleep", "60")
        until(lambda: "late 1" in next(lines), 20)
        process.kill()


def test_a_stream_goes_on_through_a_restart_and_ends_with_the_container(stack: Any) -> None:
    container = stack.out("run", "-d", "--name", "web", "busybox", "sleep", "60")
    samples = stream(stack, "web")
    first, second = next(samples), next(samples)
    assert (first["id"], first["name"]) == (container, "/web")
    assert second["preread"] == first["read"]
    assert second["precpu_stats"] == first["cpu_stats"]
    stack.docker("rename", "web", "site")
    stack.docker("restart", "-t", "0", "site")
    until(lambda: (found := next(samples))["name"] == "/site" and found["pids_stats"].get("current"))
    stack.docker("stop", "-t", "0", "site")
    until(lambda: next(samples)["read"].startswith("0001"))
    stack.docker("rm", "site")
    assert len(list(samples)) <= 1


def test_network_counters_are_those_inside(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sleep", "60")
    before = sample(stack, "web")["networks"]["eth0"]["tx_packets"]
    gateway = stack.out("inspect", "-f", "{{.NetworkSettings.Gateway}}", "web")
    stack.docker("run", "--rm", "--network", "container:web", "busybox", "ping", "-c", "3", "-i", "0.2", gateway)
    assert sample(stack, "web")["networks"]["eth0"]["tx_packets"] >= before + 3


def test_one_shot_takes_no_time_and_many_do_not_either(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sleep", "60")
    began = time.monotonic()
    for _ in range(100):
        assert sample(stack, "web")["pids_stats"]["current"] == 1
    assert time.monotonic() - began < 5
