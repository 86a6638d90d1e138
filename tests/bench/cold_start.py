"""Cold start: from exec to READY=1, and to the first answered `docker ps`, ours beside dockerd with its containerd.

``python -m tests.bench.cold_start [--counts 0,100,1000] [--rounds 3]``: each engine on its own data and in its own
network namespace, with so many stopped containers; rounds in turn. And how long an upgrade of ours takes, with the
longest time that a client waits meanwhile.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from services.ctl import busybox
from tests.bench.start_path import Api

DOCKYARD = str(Path(sys.executable).with_name("dockyard"))
TIMEOUT = 120.0  # seconds


def inherited() -> dict[str, str]:
    """Return our environment, as far as it compiles nothing anew at each start: what is installed is compiled."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


class Daemon:
    """An engine that can be started and stopped on the same data again."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name, self.directory = name, directory
        self.host = directory / "docker.sock"
        self.made = 0
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        at = str(self.directory)
        if self.name == "dockerd":
            bare = [] if shutil.which("iptables") else ["--bridge", "none"]
            data = ["--data-root", f"{at}/data", "--exec-root", f"{at}/exec", "--pidfile", f"{at}/pid"]
            return ["dockerd", *data, "--host", f"unix://{self.host}", *bare]
        return [DOCKYARD, "up"]  # as its unit does

    def environ(self) -> dict[str, str]:
        """Return what /etc/default/dockyard would say."""
        return {
            "DOCKYARD_ROOT": str(self.directory / "root"),
            "DOCKYARD_RUN": str(self.directory / "run"),
            "DOCKYARD_CGROUP_PARENT": f"/bench-{os.getpid()}",
            "DOCKYARD_BRIDGE": "dybench0",
            "DOCKYARD_BIP": "10.218.0.1/24",
            "DOCKYARD_HOSTS": f"unix://{self.host}",
        }

    def start(self) -> tuple[float, float]:
        """Return seconds from exec to READY=1, and to the end of the first `docker ps` that is answered."""
        path = self.directory / "notify"
        path.unlink(missing_ok=True)
        self.host.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, (self.directory / "log").open("ab") as log:
            notify.bind(str(path))
            notify.settimeout(TIMEOUT)
            namespace = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
            began = time.perf_counter()
            self.process = subprocess.Popen(
                [*namespace, *self.command()],
                stdout=log,
                stderr=log,
                env={**inherited(), **self.environ(), "NOTIFY_SOCKET": str(path)},
            )
            answered: list[float] = []
            asking = threading.Thread(target=lambda: answered.append(self._first_answer(began)))
            asking.start()
            while b"READY=1" not in notify.recv(4096).split(b"\n"):
                continue
            ready = time.perf_counter() - began
            asking.join()
        return ready, answered[0]

    def _first_answer(self, began: float) -> float:
        while subprocess.run(
            ["docker", "--host", f"unix://{self.host}", "ps"], capture_output=True, check=False
        ).returncode:
            if time.perf_counter() - began > TIMEOUT:
                raise TimeoutError(f"{self.name} does not answer")
            time.sleep(0.01)
        return time.perf_counter() - began

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def have(self, count: int, image: Path) -> None:
        """Have so many stopped containers."""
        if not self.made:
            load = ["docker", "--host", f"unix://{self.host}", "load", "-qi", str(image)]
            subprocess.run(load, check=True, stdout=subprocess.DEVNULL)
        api = Api(self.host)
        while self.made < count:
            api.call("POST", "/containers/create", {"Image": "busybox", "Cmd": ["true"]})
            self.made += 1
        api.close()


def upgrade(daemon: Daemon) -> tuple[float, float, int, int]:
    """Return seconds of an upgrade, the longest that one client in a loop waited, its requests, and its errors."""
    done, longest, requests, errors = threading.Event(), 0.0, 0, 0

    def ask() -> None:
        nonlocal longest, requests, errors
        while not done.is_set():
            began = time.perf_counter()
            api = Api(daemon.host)
            try:
                api.call("GET", "/containers/json")
            except (OSError, RuntimeError):
                errors += 1
            api.close()
            longest, requests = max(longest, time.perf_counter() - began), requests + 1

    client = threading.Thread(target=ask)
    client.start()
    began = time.perf_counter()
    subprocess.run([DOCKYARD, "--run", f"{daemon.directory}/run", "upgrade"], check=True, stdout=subprocess.DEVNULL)
    took = time.perf_counter() - began
    done.set()
    client.join()
    return took, longest, requests, errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", default="0,100,1000")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dybench", dir="/var/tmp") as directory:
        image = Path(directory, "busybox.tar")
        image.write_bytes(busybox.archive())
        daemons = [
            Daemon(name, Path(directory, name))
            for name in ("dockyard", "dockerd")
            if name == "dockyard" or shutil.which(name)
        ]
        print(
            "cold start, s (median)      "
            + "".join(f"{d.name + ' READY':>18}{d.name + ' docker ps':>22}" for d in daemons)
        )
        for daemon in daemons:
            daemon.directory.mkdir()
        for count in map(int, given.counts.split(",")):
            for daemon in daemons:
                daemon.start()
                daemon.have(count, image)
                daemon.stop()
            samples: dict[str, list[tuple[float, float]]] = {daemon.name: [] for daemon in daemons}
            for _ in range(given.rounds):
                for daemon in daemons:
                    samples[daemon.name].append(daemon.start())
                    daemon.stop()
            medians = [[statistics.median(column) for column in zip(*samples[d.name], strict=True)] for d in daemons]
            print(
                f"  {count:5d} stopped containers  "
                + "".join(f"{ready:18.2f}{first:22.2f}" for ready, first in medians),
                flush=True,
            )
        daemons[0].start()
        took, longest, requests, errors = upgrade(daemons[0])
        daemons[0].stop()
        print(
            f"upgrade: {took:.1f} s, {requests} requests meanwhile, {errors} failed, the longest took {longest:.2f} s"
        )


if __name__ == "__main__":
    main()
