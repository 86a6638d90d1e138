"""Every field of a container's Config acts, or is shown: one row each, in real containers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from shared.protocol import ContainerConfig
from tests.integration.api import request
from tests.integration.tables import Inside

pytestmark = pytest.mark.root


@dataclass(frozen=True)
class Shown:
    """It is for clients: `inspect` has it as it was given."""

    value: Any


@dataclass(frozen=True)
class Elsewhere:
    test: str  # the function of this file, of test_run.py or test_health.py, that asserts it


TABLE: dict[str, Inside | Shown | Elsewhere] = {
    "Hostname": Inside("there", "hostname; cat /etc/hostname; echo $HOSTNAME", "^there\nthere\nthere$"),
    "Domainname": Inside("example.test", "hostname -f; cat /proc/sys/kernel/domainname",
                         "^there.example.test\nexample.test$", {"Hostname": "there"}),
    "User": Inside("77:88", "id -u; id -g", "^77\n88$"),
    "AttachStdin": Shown(True),
    "AttachStdout": Shown(True),
    "AttachStderr": Shown(True),
    "ExposedPorts": Shown({"81/tcp": {}}),
    "Tty": Elsewhere("test_a_terminal"),
    "OpenStdin": Elsewhere("test_stdin_is_piped_and_half_closed"),
    "StdinOnce": Elsewhere("test_stdin_is_piped_and_half_closed"),
    "Env": Inside(["COLOUR=blue", "TERM=dumb"], "echo $COLOUR $TERM", "^blue dumb$"),
    "Cmd": Elsewhere("test_entrypoint_and_cmd"),
    "Entrypoint": Elsewhere("test_entrypoint_and_cmd"),
    "Healthcheck": Elsewhere("test_it_starts_fails_and_recovers"),
    "ArgsEscaped": Shown(True),  # of Windows
    "Image": Elsewhere("test_entrypoint_and_cmd"),
    "Volumes": Inside({"/data": {}}, "mount | grep -c ' /data '", "^1$"),
    "WorkingDir": Inside("/made/../here", "pwd", "^/here$"),
    "NetworkDisabled": Inside(True, "ls /sys/class/net | grep eth0; echo $?", "^1$"),
    "MacAddress": Inside("02:42:00:00:00:77", "cat /sys/class/net/eth0/address", "^02:42:00:00:00:77$"),
    "OnBuild": Shown(["RUN true"]),  # of what is committed of it
    "Labels": Shown({"a": "b"}),
    "StopSignal": Elsewhere("test_how_a_container_is_stopped"),
    "StopTimeout": Elsewhere("test_how_a_container_is_stopped"),
    "Shell": Shown(["/bin/ash", "-c"]),
}  # fmt: skip


def test_no_field_is_left_out() -> None:
    assert set(TABLE) == {field.encode_name for field in msgspec.structs.fields(ContainerConfig)}


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if isinstance(row, Shown)])
def test_it_is_shown(stack: Any, name: str) -> None:
    row = TABLE[name]
    assert isinstance(row, Shown)
    body = {"Image": "busybox", "Cmd": ["true"], name: row.value}
    _, answer = request(stack, "POST", "/containers/create", body)
    shown = request(stack, "GET", f"/containers/{answer['Id']}/json")[1]["Config"]
    assert shown[name] == row.value


def test_entrypoint_and_cmd(stack: Any) -> None:
    assert stack.out("run", "--rm", "--entrypoint", "echo", "busybox", "a", "b") == "a b"


def test_how_a_container_is_stopped(stack: Any) -> None:
    trap = "trap 'exit 7' USR1; trap '' TERM; while :; do sleep 0.05; done"
    stack.docker("run", "-d", "--name", "polite", "--stop-signal", "USR1", "busybox", "sh", "-c", trap)
    stack.docker("stop", "polite")
    assert stack.out("inspect", "-f", "{{.State.ExitCode}}", "polite") == "7"
    stack.docker("run", "-d", "--name", "deaf", "--stop-timeout", "1", "busybox", "sh", "-c", trap)
    began = time.monotonic()
    stack.docker("stop", "deaf")
    assert 1 <= time.monotonic() - began < 8
    assert stack.out("inspect", "-f", "{{.State.ExitCode}}", "deaf") == "137"


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if isinstance(row, Inside)])
def test_it_acts_inside(stack: Any, name: str) -> None:
    row = TABLE[name]
    assert isinstance(row, Inside)
    row.check(stack, name, in_host_config=False)
