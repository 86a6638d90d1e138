"""Containers that share: network, pid and ipc of another one, links, and the ports that all see."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import until

pytestmark = pytest.mark.root


@pytest.fixture
def donor(stack: Any) -> Any:
    stack.docker("run", "-d", "--name", "donor", "--hostname", "there", "--ipc", "shareable", "busybox", "sleep", "90")
    return stack


def refused(stack: Any, *args: str) -> str:
    result = stack.docker(*args, check=False)
    assert result.returncode != 0
    return str(result.stderr)


def test_a_network_is_shared_with_its_names(donor: Any) -> None:
    address = donor.out("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "donor")
    script = "ip -o -4 addr show eth0; hostname; cat /etc/hosts"
    out = donor.out("run", "--rm", "--network", "container:donor", "busybox", "sh", "-c", script)
    assert address in out.splitlines()[0]
    assert out.splitlines()[1] == "there"
    assert f"{address}\tthere" in out
    donor.docker("run", "-d", "--name", "joined", "--network", "container:donor", "busybox", "sleep", "90")
    shown = json.loads(donor.out("inspect", "joined"))[0]
    donor_id = donor.out("inspect", "-f", "{{.Id}}", "donor")
    assert shown["HostConfig"]["NetworkMode"] == f"container:{donor_id}"
    assert shown["NetworkSettings"]["Networks"] == {}
    third = donor.out("run", "--rm", "--network", "container:joined", "busybox", "sh", "-c", script)
    assert address in third


def test_a_joined_container_keeps_its_names_when_the_other_is_gone(donor: Any) -> None:
    donor.docker("run", "-d", "--name", "joined", "--network", "container:donor", "busybox", "sleep", "90")
    donor.docker("rm", "-f", "donor")
    assert donor.out("inspect", "-f", "{{.State.Running}}", "joined") == "true"
    path = Path(donor.out("inspect", "-f", "{{.HostsPath}}", "joined"))
    assert "there" in path.read_text()
    assert "No such container" in refused(donor, "restart", "-t", "0", "joined")


def test_processes_are_shared(donor: Any) -> None:
    out = donor.out("run", "--rm", "--pid", "container:donor", "busybox", "ps", "-o", "pid,args")
    assert "1 sleep 90" in out
    # an init of its own would not be the first process there
    out = donor.out("run", "--rm", "--init", "--pid", "container:donor", "busybox", "cat", "/proc/1/comm")
    assert out == "sleep"


def test_memory_is_shared_if_it_is_shareable(donor: Any) -> None:
    donor.docker("run", "--rm", "--ipc", "container:donor", "busybox", "sh", "-c", "echo here > /dev/shm/x")
    script = "cat /dev/shm/x; mount | grep /dev/shm"
    out = donor.out("run", "--rm", "--ipc", "container:donor", "busybox", "sh", "-c", script)
    assert out.startswith("here\n")
    assert all(word in out for word in ("nosuid", "nodev", "noexec"))
    donor.docker("run", "-d", "--name", "alone", "busybox", "sleep", "90")
    assert "non-shareable IPC" in refused(donor, "run", "--rm", "--ipc", "container:alone", "busybox", "true")
    donor.docker("rm", "-f", "donor")
    assert "/shm " not in Path("/proc/mounts").read_text().replace("/dev/shm ", "")


def test_shared_memory_outlives_the_driver_and_leaves_no_mount(donor: Any) -> None:
    (pid,) = donor.pids("execdriver")
    os.kill(pid, signal.SIGKILL)
    until(lambda: donor.pids("execdriver") not in ([], [pid]))
    donor.docker("run", "--rm", "--ipc", "container:donor", "busybox", "touch", "/dev/shm/x")
    donor.docker("rm", "-f", "donor")
    assert not [line for line in Path("/proc/mounts").read_text().splitlines() if f"{donor.run}/containers" in line]


@pytest.mark.parametrize(("option", "title"), [("--network", "network"), ("--pid", "PID"), ("--ipc", "IPC")])
def test_the_other_must_run(donor: Any, option: str, title: str) -> None:
    donor.docker("stop", "-t", "0", "donor")
    text = refused(donor, "run", option, "container:donor", "busybox", "true")
    assert f"cannot join {title} of a non running container" in text
    assert "No such container: nobody" in refused(donor, "run", option, "container:nobody", "busybox", "true")


def test_a_linked_container_is_found_by_its_names(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "database", "-e", "USER=x", "--expose", "5432", "busybox", "sleep", "90")
    out = stack.out("run", "--rm", "--link", "database:db", "busybox", "sh", "-c", "ping -c1 -W1 db && env")
    address = stack.out("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "database")
    assert f"DB_PORT_5432_TCP_ADDR={address}" in out
    assert "DB_ENV_USER=x" in out
    stack.docker("run", "-d", "--name", "web", "--link", "database:db", "busybox", "sleep", "90")
    assert stack.out("inspect", "-f", "{{.HostConfig.Links}}", "web") == "[/database:/web/db]"
    assert "web/db" in stack.out("ps", "--filter", "name=database", "--format", "{{.Names}}", "--no-trunc")
    stack.docker("stop", "-t", "0", "database")
    stack.docker("run", "-d", "--name", "squatter", "busybox", "sleep", "90")
    stack.docker("start", "database")
    address = stack.out("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "database")
    hosts = Path(stack.out("inspect", "-f", "{{.HostsPath}}", "web"))
    assert [line.split()[0] for line in hosts.read_text().splitlines() if " db " in f"{line} ".replace("\t", " ")] == [
        address
    ]
    assert stack.out("inspect", "--format", "{{.Name}}", "web/db") == "/database"
    stack.docker("rm", "--link", "web/db")
    assert stack.out("inspect", "-f", "{{.HostConfig.Links}}", "web") == "[]"


def test_an_exec_knows_the_links_that_there_are(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "database", "-e", "USER=x", "--expose", "5432", "busybox", "sleep", "90")
    own = ["-e", "DB_ENV_USER=mine"]
    stack.docker("run", "-d", "--name", "web", "--link", "database:db", *own, "busybox", "sleep", "90")
    stack.docker("stop", "-t", "0", "database")
    stack.docker("run", "-d", "--name", "squatter", "busybox", "sleep", "90")
    assert "DB_PORT" not in stack.out("exec", "web", "env")
    stack.docker("start", "database")
    address = stack.out("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "database")
    variables = stack.out("exec", "-e", "DB_NAME=given", "web", "env").splitlines()
    assert {f"DB_PORT_5432_TCP_ADDR={address}", "DB_ENV_USER=mine", "DB_NAME=given"} <= set(variables)
    assert "DB_NAME=/web/db" in stack.out("exec", "web", "env").splitlines()


def test_all_exposed_ports_are_published(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "web", "-P", "--expose", "80", "--expose", "53/udp", "busybox", "sleep", "90")
    ports = json.loads(stack.out("inspect", "-f", "{{json .NetworkSettings.Ports}}", "web"))
    assert set(ports) == {"80/tcp", "53/udp"}
    assert all(int(bindings[0]["HostPort"]) > 0 for bindings in ports.values())
