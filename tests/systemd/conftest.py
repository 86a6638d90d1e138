"""A machine: a real systemd as PID 1 of a PID namespace, over an overlay of this host's root (`sysboot`).

The units are installed as shipped, but for the path of the program: that of this checkout's virtual environment.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import until

CHECKOUT = Path(__file__).parents[2]
SYSBOOT = Path(__file__).with_name("sysboot")
DOCKYARD = Path(sys.executable).with_name("dockyard")
UNITS = ("dockyard.service", "dockyard.socket", "dockyard.slice", "dockyard-shutdown.service")
API = "unix:///run/dockyard/docker.sock"


@cache
def what_is_missing() -> str:
    """Return why no systemd can be booted here; empty if it can."""
    if os.geteuid() != 0:
        return "it takes root"
    for path in ("/lib/systemd/systemd", "/usr/bin/dbus-daemon", "/usr/bin/unshare"):
        if not Path(path).exists():
            return f"there is no {path}"
    tried = subprocess.run([SYSBOOT, "try"], capture_output=True, text=True, check=False)
    return (tried.stderr.strip().splitlines() or ["sysboot try fails"])[-1] if tried.returncode else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = what_is_missing() if items else ""
    for item in items:
        if missing and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=f"no systemd can be booted here: {missing}"))


class Machine:
    """Times in seconds. ``data``: /var/lib/dockyard, which outlives the machine."""

    def __init__(self, name: str, data: Path) -> None:
        self.name, self.data = name, data
        self.checkout, self.program = CHECKOUT, DOCKYARD

    def boot(self, target: str = "multi-user.target", *, installed: bool = True) -> None:
        command = [SYSBOOT, "up", self.name, "--bind", CHECKOUT, "--data", self.data, "--target", target]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=120)
        if installed:
            self._install()

    def _install(self) -> None:
        for unit in UNITS:
            text = (CHECKOUT / "packaging/systemd" / unit).read_text()
            self.write(f"/etc/systemd/system/{unit}", text.replace("/usr/bin/dockyard", str(DOCKYARD)))
        self.sh("getent group docker >/dev/null || groupadd --system docker; systemctl daemon-reload")

    def down(self, *options: str) -> None:
        subprocess.run([SYSBOOT, "down", self.name, *options], check=True, timeout=150)

    # -- inside

    def run(self, *command: str, check: bool = True, timeout: float = 90, input: str | None = None) -> Any:
        result = subprocess.run(
            [SYSBOOT, "exec", self.name, "env", f"DOCKER_HOST={API}", f"PATH={os.environ['PATH']}", *command],
            capture_output=True, text=True, timeout=timeout, check=False, input=input,
            **({} if input is not None else {"stdin": subprocess.DEVNULL}),
        )  # fmt: skip
        assert not check or result.returncode == 0, f"{command}: {result.returncode} {result.stdout} {result.stderr}"
        return result

    def sh(self, script: str, **options: Any) -> str:
        return str(self.run("sh", "-ec", script, **options).stdout).strip()

    def docker(self, *args: str, **options: Any) -> str:
        return str(self.run("docker", *args, **options).stdout).strip()

    def dockyard(self, *args: str, **options: Any) -> Any:
        return self.run(str(DOCKYARD), *args, **options)

    def systemctl(self, *args: str, **options: Any) -> Any:
        return self.run("systemctl", *args, **options)

    def show(self, *names: str, unit: str = "dockyard.service") -> dict[str, str]:
        lines = self.systemctl("show", unit, "-p", ",".join(names)).stdout.splitlines()
        return {key: value for key, _, value in (line.partition("=") for line in lines)}

    def state(self) -> str:
        return self.show("ActiveState")["ActiveState"]

    def journal(self) -> str:
        return str(self.run("journalctl", "-u", "dockyard", "--no-pager", "-o", "short-monotonic").stdout)

    def write(self, path: str, text: str) -> None:
        self.run("sh", "-c", f'mkdir -p "$(dirname {path})"; cat > {path}', input=text)

    def put(self, source: Path, path: str) -> None:
        with source.open("rb") as stream:
            command = [SYSBOOT, "exec", self.name, "sh", "-c", f"cat > {path}"]
            subprocess.run(command, stdin=stream, check=True, timeout=60)

    def drop_in(self, *lines: str) -> None:
        """Change the service's section; `reset` takes it back."""
        self.write("/run/systemd/system/dockyard.service.d/test.conf", "\n".join(["[Service]", *lines, ""]))
        self.systemctl("daemon-reload")

    def pids(self, service: str) -> list[int]:
        """Return a service's processes, by the arbiter's word."""
        rows = json.loads(self.dockyard("ps", "--json").stdout)
        return [row["pid"] for row in rows if row["service"] == service]

    def processes(self) -> dict[int, str]:
        """Return the command lines of all that runs in the unit's cgroup."""
        text = self.sh("cd /sys/fs/cgroup; for p in $(cat */system.slice/dockyard.service/cgroup.procs "
                       "system.slice/dockyard.service/cgroup.procs 2>/dev/null | sort -u); do "
                       "echo $p $(tr '\\0' ' ' < /proc/$p/cmdline 2>/dev/null); done")  # fmt: skip
        found = (re.fullmatch(r"(\d+) (.*)", line.strip()) for line in text.splitlines())
        return {int(match[1]): match[2] for match in found if match}

    def kill(self, number: str, *pids: int) -> None:
        self.run("kill", f"-{number}", *map(str, pids))

    def start(self) -> None:
        self.systemctl("start", "dockyard.service")
        if not self.docker("images", "-q", "busybox"):
            self.dockyard("busybox")

    def reset(self) -> None:
        """Have no container, no changed unit, an image, and a service that has not failed."""
        changed = self.sh(
            "ls -d /run/systemd/system/dockyard.service.d /etc/dockyard/dockyard.toml 2>/dev/null || true"
        )
        if changed:
            self.systemctl("stop", "dockyard.service")
            self.run("rm", "-rf", *changed.split())
            self.systemctl("daemon-reload")
        self.systemctl("reset-failed")
        self.start()
        if ids := self.docker("ps", "-aq").split():
            self.docker("rm", "-fv", *ids)


def new_directory() -> Path:
    """Make one on a file system that overlays can be mounted on."""
    return Path(tempfile.mkdtemp(prefix="dysd", dir="/var/tmp"))


@pytest.fixture(scope="session")
def booted() -> Iterator[Machine]:
    data = new_directory()
    made = Machine(f"dy{os.getpid()}", data)
    made.boot()
    yield made
    made.down()
    shutil.rmtree(data)


@pytest.fixture
def started(booted: Machine) -> Machine:
    """The machine that all tests share; each gets it with the service started, an image, and no container."""
    booted.reset()
    return booted


@pytest.fixture
def machine(started: Machine) -> Machine:
    """The same with the service stopped."""
    started.systemctl("stop", "dockyard.service", "dockyard.socket")
    return started


def come_back(machine: Machine, restarts: int) -> None:
    """Wait until the unit has been restarted so often, and is active."""

    def is_back() -> bool:
        now = machine.show("NRestarts", "ActiveState")
        return int(now["NRestarts"]) >= restarts and now["ActiveState"] == "active"

    until(is_back, 60, f"it has not come back: {machine.show('NRestarts', 'ActiveState', 'Result', 'StatusText')}")
