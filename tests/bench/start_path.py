"""`make bench`: milliseconds of create, start, wait and remove over the API, where they go, and the peers beside us.

Against the stack at ``--run``; peers take part if they are installed (`engines`).
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import os
import socket
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from shared.bus.client import Client
from shared.bus.sockets import engine_endpoint
from shared.protocol import ListJobs
from tests.bench import api, builds, bus, containers, crowds, images
from tests.bench.engines import beside, engines

DRIVER_JOBS = ("layer_", "allocate_", "release_", "runtime_")


class Api(http.client.HTTPConnection):
    """One kept-alive connection to a Docker Engine API on a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("docker")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))

    def call(self, method: str, url: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        self.request(method, f"/v1.41{url}", json.dumps(body) if body is not None else None, headers)
        answer = self.getresponse()
        data = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {url}: {answer.status} {data.decode()}")
        return json.loads(data) if data.strip() else None


def timed(samples: dict[str, list[float]], name: str, action: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    result = action()
    samples[name].append((time.perf_counter() - began) * 1000)
    return result


def api_rounds(path: Path, rounds: int) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = collections.defaultdict(list)
    api = Api(path)
    for _ in range(rounds):
        spec = {"Image": "busybox", "Cmd": ["true"]}
        ref = timed(samples, "create", lambda s=spec: api.call("POST", "/containers/create", s))["Id"]
        timed(samples, "start", lambda r=ref: api.call("POST", f"/containers/{r}/start"))
        timed(samples, "wait", lambda r=ref: api.call("POST", f"/containers/{r}/wait"))
        timed(samples, "remove", lambda r=ref: api.call("DELETE", f"/containers/{r}?force=1"))
        samples["create + start"].append(samples["create"][-1] + samples["start"][-1])
    return samples


def report(title: str, samples: dict[str, list[float]]) -> None:
    print(f"\n{title}")
    for name, values in samples.items():
        ordered = sorted(values)
        p90 = ordered[int(len(ordered) * 0.9)]
        print(f"  {name:34} {statistics.median(ordered):8.1f} ms   p90 {p90:8.1f}   n={len(ordered)}")


def job_spans(run: Path, rounds: int) -> dict[str, list[float]]:
    """Return job name → milliseconds, of the jobs that the rounds caused, from the engine's journal."""
    spans: dict[str, list[float]] = collections.defaultdict(list)
    for job in Client(engine_endpoint(run), "bench").call(ListJobs(limit=rounds * 14)):
        if job.ended is not None:
            place = "  " if job.name.startswith(DRIVER_JOBS) else ""
            spans[f"{place}{job.name} ({job.service})"].append((job.ended - job.started) * 1000)
    return dict(sorted(spans.items(), key=lambda item: item[0].strip()))


def command_rounds(commands: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """Time commands in turn, A B C A B C …, so that the machine's moods meet them alike."""
    samples: dict[str, list[float]] = collections.defaultdict(list)
    for index in range(rounds + 1):
        for name, command in commands.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if index:  # the first round warms up
                samples[name].append((time.perf_counter() - began) * 1000)
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("/run/dockyard"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3.0, help="of load for each case of the API")
    parser.add_argument("--containers", type=int, default=1000, help="at most, for containers/json")
    arguments = parser.parse_args()
    path = arguments.run / "docker.sock"
    api_rounds(path, 3)
    report("over the API (busybox true, bridge network)", api_rounds(path, arguments.rounds))
    time.sleep(1.5)  # the journal is written once a second
    report("where it goes, job by job", job_spans(arguments.run, arguments.rounds))
    bus.main(arguments.run)
    os.environ.pop("DOCKER_HOST", None)
    with ExitStack() as stack:
        found = engines(stack, path)
        for network in ("bridge", "none"):
            words = ["--rm", f"--network={network}", "busybox", "true"]
            commands = {engine.name: [*engine.command, "run", *engine.options, *words] for engine in found}
            commands["docker version (the CLI alone)"] = [*found[0].command, "version"]
            samples = command_rounds(commands, arguments.rounds)
            report(f"docker run --rm --network={network} busybox true, whole command", samples)
            for name in [engine.name for engine in found[1:]]:
                ratio = statistics.median(samples["dockyard"]) / statistics.median(samples[name])
                print(f"  dockyard / {name}: {ratio:.2f}")
        containers.main(found, max(1, arguments.rounds // 5))
        builds.main(found, max(1, arguments.rounds // 5))
        images.main(found, beside(stack, path), max(1, arguments.rounds // 6))
        api.main(found, arguments.run, arguments.seconds, arguments.containers)
        crowds.main(found)


if __name__ == "__main__":
    main()
