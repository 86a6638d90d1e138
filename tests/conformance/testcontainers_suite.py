"""What testcontainers is for: containers that are ready when they are given, and gone when the test is over.

Run by `tests.conformance.testcontainers`, in an environment that has testcontainers.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer, Reaper
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import (
    ExecWaitStrategy,
    HealthcheckWaitStrategy,
    HttpWaitStrategy,
    LogMessageWaitStrategy,
    PortWaitStrategy,
)

HTTPD = "mkdir -p /www; echo served > /www/index.html; sleep 1; echo ready; exec httpd -f -p 80 -h /www"


@pytest.fixture(params=[False, True], ids=["ryuk", "alone"], autouse=True)
def reaper(request: pytest.FixtureRequest) -> Iterator[None]:
    testcontainers_config.ryuk_disabled = request.param
    yield
    Reaper.delete_instance()
    until(lambda: not docker.from_env().containers.list(all=True), "containers are left")


def until(condition: Callable[[], Any], what: str, timeout: float = 30) -> Any:
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.1)
    return value


def busybox(script: str = HTTPD) -> DockerContainer:
    return DockerContainer("busybox").with_command(["sh", "-c", script]).with_kwargs(init=True)


def fetch(container: DockerContainer) -> str:
    url = f"http://{container.get_container_host_ip()}:{container.get_exposed_port(80)}/"
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def test_a_generic_container() -> None:
    container = busybox("echo $A; exec sleep 1000").with_env("A", "from the environment")
    with container.waiting_for(LogMessageWaitStrategy("from the env")):
        assert container.exec("id -u").exit_code == 0
        assert container.exec(["sh", "-c", "echo inside; exit 3"]).output == b"inside\n"
        assert container.exec(["sh", "-c", "exit 3"]).exit_code == 3
        assert container.get_logs()[0] == b"from the environment\n"
        assert container.get_wrapped_container().status in {"created", "running"}


@pytest.mark.parametrize(
    "strategy",
    [
        lambda: LogMessageWaitStrategy("ready"),
        lambda: HttpWaitStrategy(80).for_status_code(200),
        lambda: PortWaitStrategy(80),
        lambda: ExecWaitStrategy(["test", "-e", "/www/index.html"]),
    ],
    ids=["logs", "http", "port", "exec"],
)
def test_wait_strategies(strategy: Callable[[], Any]) -> None:
    container = busybox().with_exposed_ports(80).waiting_for(strategy().with_startup_timeout(30))
    with container:
        assert until(lambda: _try(container), "it was not served") == "served\n"


def _try(container: DockerContainer) -> str:
    try:
        return fetch(container)
    except OSError:
        return ""


def test_a_health_check_is_waited_for() -> None:
    check = {"test": ["CMD", "test", "-e", "/ready"], "interval": 300_000_000, "timeout": 10**10, "retries": 50}
    container = busybox("sleep 1; touch /ready; exec sleep 1000").with_kwargs(healthcheck=check, init=True)
    with container.waiting_for(HealthcheckWaitStrategy().with_startup_timeout(30)):
        assert container.exec("test -e /ready").exit_code == 0


def test_a_container_that_ends_is_not_waited_for_to_the_end() -> None:
    with pytest.raises((RuntimeError, TimeoutError)):
        busybox("echo no; exit 1").waiting_for(LogMessageWaitStrategy("ready").with_startup_timeout(10)).start()
    for container in docker.from_env().containers.list(all=True):
        if "ryuk" not in container.name:
            container.remove(force=True)


def test_a_network_with_aliases() -> None:
    with (
        Network() as network,
        busybox("exec sleep 1000").with_network(network).with_network_aliases("db", "store"),
        busybox("exec sleep 1000").with_network(network).with_network_aliases("web") as web,
    ):
        for name in ("db", "store", "web"):
            assert web.exec(["ping", "-c1", "-W2", name]).exit_code == 0, name
        assert network.id in {one.id for one in docker.from_env().networks.list()}
    assert network.id not in {one.id for one in docker.from_env().networks.list()}


def test_ports_volumes_and_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("bound\n")
    container = busybox("exec sleep 1000").with_bind_ports(80, 18099).with_volume_mapping(tmp_path, "/data")
    container = container.with_tmpfs_mount("/scratch", "size=1m").with_copy_into_container(b"copied\n", "/tmp/b")
    with container:
        assert container.get_exposed_port(80) == 18099
        assert container.exec(["cat", "/data/a", "/tmp/b"]).output == b"bound\ncopied\n"
        assert b"/scratch tmpfs" in container.exec(["cat", "/proc/mounts"]).output
        container.copy_from_container("/tmp/b", tmp_path / "c")
        assert (tmp_path / "c").read_text() == "copied\n"


PROGRAM = """
import time
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
network = Network().create()
DockerContainer("busybox").with_command("sleep 1000").with_network(network).start()
print("started", flush=True)
time.sleep(1000)
"""


def test_the_reaper_clears_up_after_a_program_that_was_killed() -> None:
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    client = docker.from_env()
    assert [one for one in client.containers.list() if one.image.tags == ["busybox:latest"]]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    until(lambda: not [one for one in client.containers.list(all=True) if "ryuk" not in one.name], "it was not reaped")
    until(lambda: not client.networks.list(filters={"type": "custom"}), "its network was not reaped")
    for one in client.containers.list(all=True):
        one.remove(force=True)


def test_the_host_is_where_the_ports_are() -> None:
    with busybox().with_exposed_ports(80).waiting_for(LogMessageWaitStrategy("ready")) as container:
        port = container.get_exposed_port(80)
        until(lambda: _connects(container.get_container_host_ip(), port), "nobody listens")


def _connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 5).close()
    except OSError:
        return False
    return True
