"""A stack with ``bridge = none``, as dockerd has it: what the CLI shows, and who has which network."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Stack
from tests.integration.test_network import fails, networks_of

pytestmark = pytest.mark.root
LINKS = ("ls", "/sys/class/net")


@pytest.fixture(scope="module")
def bare() -> Iterator[Stack]:
    stack = Stack(Path(tempfile.mkdtemp(prefix="dy", dir="/tmp")), DOCKYARD_BRIDGE="none", DOCKYARD_BIP="").start()
    stack.dockyard("busybox")
    yield stack
    stack.close()


def test_what_is_shown(bare: Stack) -> None:
    assert bare.out("network", "ls", "--format", "{{.Name}}").split() == ["host", "none"]
    assert "network bridge not found" in fails(bare, "network", "inspect", "bridge")
    assert "network bridge not found" in fails(bare, "network", "rm", "bridge")
    assert "bridge" in json.loads(bare.out("info", "--format", "{{json .Plugins.Network}}"))


def test_without_a_network_named_there_is_none(bare: Stack) -> None:
    assert bare.out("run", "--rm", "busybox", *LINKS) == "lo"
    assert bare.out("run", "--rm", "--network", "bridge", "-p", "8080:80", "busybox", *LINKS) == "lo"
    unable = fails(bare, "run", "--rm", "--add-host", "h:host-gateway", "busybox", "true")
    assert "unable to derive the IP value for host-gateway" in unable


def test_networks_of_users(bare: Stack) -> None:
    bare.docker("network", "create", "app")
    assert bare.out("run", "--rm", "--network", "app", "busybox", *LINKS).split() == ["eth0", "lo"]
    bare.docker("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    assert networks_of(bare, "web")["bridge"]["NetworkID"] == ""
    assert "network bridge not found" in fails(bare, "network", "connect", "bridge", "web")
    bare.docker("network", "connect", "app", "web")
    assert bare.out("exec", "web", *LINKS).split() == ["eth0", "lo"]
    bare.docker("network", "disconnect", "app", "web")
    assert bare.out("exec", "web", *LINKS).split() == ["lo"]
    bare.docker("rm", "-f", "web")
    bare.docker("network", "rm", "app")
