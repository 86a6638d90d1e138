"""`make bench`: milliseconds of create, start, wait and remove over the API, where they go, and the peers beside us.

Against the stack at ``--run``. Peers (Debian's docker.io and podman) take part if they are installed; they are started
by hand in a network namespace of their own, with their own data, and given the same busybox image.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from shared.bus.client import Client
from shared.bus.sockets import engine_endpoint
from shared.protocol import ListJobs
from tests.bench import bus

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


@contextmanager
def dockerd(directory: Path) -> Iterator[list[str]]:
    """Run Debian's dockerd on its own data; yields the client's command."""
    host = f"unix://{directory}/docker.sock"
    daemon = ["dockerd", "--data-root", f"{directory}/data", "--exec-root", f"{directory}/exec", "--host", host]
    daemon += ["--pidfile", f"{directory}/pid", "--bridge", "none"] if not shutil.which("iptables") else []
    log = (directory / "dockerd.log").open("wb")
    script = f"ip link set lo up; exec {' '.join(daemon)} --pidfile {directory}/pid"
    process = subprocess.Popen(["unshare", "--net", "sh", "-c", script], stdout=log, stderr=log)
    try:
        client = ["docker", "--host", host]
        deadline = time.monotonic() + 60
        while subprocess.run([*client, "version"], capture_output=True, check=False).returncode:
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"dockerd does not start: {(directory / 'dockerd.log').read_text()[-500:]}")
            time.sleep(0.2)
        yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        log.close()


def peers(stack: ExitStack, archive: Path, network: str) -> dict[str, list[str]]:
    """Start the peers that are installed; returns name → command that runs busybox true."""
    commands = {}
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dockyard-bench-")))
    run = ["run", "--rm", f"--network={network}", "busybox", "true"]
    if shutil.which("dockerd"):
        try:
            client = stack.enter_context(dockerd(directory))
            subprocess.run([*client, "load", "-qi", str(archive)], check=True, stdout=subprocess.DEVNULL)
            commands["dockerd"] = [*client, *run]
        except (RuntimeError, OSError) as error:
            print(f"dockerd does not take part: {error}")
    if shutil.which("podman"):
        client = ["podman", "--root", f"{directory}/podman", "--runroot", f"{directory}/podman-run"]
        client += ["--cgroup-manager", "cgroupfs", "--events-backend", "file"]
        inside = ["unshare", "--net", "--mount", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
        # its default limits are above what a machine without CAP_SYS_RESOURCE may set
        run[2:2] = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
        subprocess.run([*client, "load", "-qi", str(archive)], check=True, stdout=subprocess.DEVNULL)
        probe = subprocess.run([*inside, *client, *run], capture_output=True, text=True, check=False)
        if probe.returncode:
            print(f"podman does not take part: {probe.stderr.strip()[-300:]}")
        else:
            commands["podman"] = [*inside, *client, *run]
    return commands


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("/run/dockyard"))
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    path = arguments.run / "docker.sock"
    api_rounds(path, 3)
    report("over the API (busybox true, bridge network)", api_rounds(path, arguments.rounds))
    time.sleep(1.5)  # the journal is written once a second
    report("where it goes, job by job", job_spans(arguments.run, arguments.rounds))
    bus.main(arguments.run)
    ours = ["docker", "--host", f"unix://{path}"]
    os.environ.pop("DOCKER_HOST", None)
    with ExitStack() as stack:
        archive = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "busybox.tar"
        subprocess.run([*ours, "save", "-o", str(archive), "busybox"], check=True)
        for network in ("bridge", "none"):
            run = ["run", "--rm", f"--network={network}", "busybox", "true"]
            commands = {"dockyard": [*ours, *run], **peers(stack, archive, network)}
            commands["docker version (the CLI alone)"] = [*ours, "version"]
            samples = command_rounds(commands, arguments.rounds)
            report(f"docker run --rm --network={network} busybox true, whole command", samples)
            for name in ("dockerd", "podman"):
                if name in samples:
                    ratio = statistics.median(samples["dockyard"]) / statistics.median(samples[name])
                    print(f"  dockyard / {name}: {ratio:.2f}")


if __name__ == "__main__":
    main()
