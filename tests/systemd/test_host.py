"""The host goes down, in order or not: what is there after the next boot."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.integration.conftest import until
from tests.systemd.conftest import DOCKYARD, Machine, new_directory

pytestmark = [pytest.mark.root, pytest.mark.long]

WRITER = "trap 'echo bye >> /data/said; exit 0' TERM; while :; do sleep 0.1; done"


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine that a test may boot and bring down as it likes."""
    data = new_directory()
    machine = Machine(f"dyown{os.getpid()}", data)
    machine.boot()
    yield machine
    machine.down("--kill")
    shutil.rmtree(data)


def test_a_shutdown_stops_containers_in_order_and_the_boot_brings_them_back(own: Machine) -> None:
    own.start()
    own.docker("volume", "create", "data")
    for name, policy in (
        ("always", "always"),
        ("unless", "unless-stopped"),
        ("never", "no"),
        ("stopped", "unless-stopped"),
    ):
        own.docker("run", "-d", "--name", name, "--restart", policy, "-v", "data:/data", "busybox", "sh", "-c", WRITER)
    own.docker("stop", "-t", "5", "stopped")
    own.down()
    own.boot()
    own.systemctl("start", "dockyard.service")
    until(lambda: own.docker("ps", "--format", "{{.Names}}").split() == ["unless", "always"], 30)
    assert own.docker("inspect", "-f", "{{.State.ExitCode}}", "never") == "0"  # it had its SIGTERM
    assert own.docker("run", "--rm", "-v", "data:/data", "busybox", "cat", "/data/said").split() == ["bye"] * 4


def test_after_a_power_cut_all_that_was_acknowledged_is_there(own: Machine) -> None:
    """PID 1 and with it everything is killed while containers are made, started and images are loaded."""
    own.start()
    own.docker("run", "-d", "--name", "policy", "--restart", "always", "busybox", "sleep", "100000")
    for cut in range(2):
        made = own.data / "made"
        made.unlink(missing_ok=True)
        load = (
            f"i=0; while :; do i=$((i + 1)); docker create --name c{cut}x$i busybox true >/dev/null && echo c{cut}x$i"
            " >> /var/lib/dockyard/made; docker save busybox | docker load >/dev/null; done"
        )
        command = [str(DOCKYARD.parents[2] / "tests/systemd/sysboot"), "exec", own.name, "env",
                   "DOCKER_HOST=unix:///run/dockyard/docker.sock", "sh", "-c", load]  # fmt: skip
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as loading:
            until(lambda made=made: made.exists() and len(made.read_text().split()) > 10, 60)
            own.down("--kill")
            loading.wait(30)
        own.boot()
        began = time.monotonic()
        own.systemctl("start", "dockyard.service")
        assert time.monotonic() - began < 30
        there = set(own.docker("ps", "-a", "--format", "{{.Names}}").split())
        assert set(made.read_text().split()) <= there
        until(lambda: "policy" in own.docker("ps", "--format", "{{.Names}}").split(), 30)
        assert own.docker("run", "--rm", "busybox", "echo", "hello") == "hello"
        assert "quarantined" not in own.docker("info")
