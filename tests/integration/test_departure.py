"""What a stack leaves in the kernel when it stops: nothing, or what its containers need."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import until
from tests.outliving.host import Host

pytestmark = pytest.mark.root


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host(Path(tempfile.mkdtemp(prefix="dy", dir="/tmp"))).start()
    yield host
    if host.process is None or host.ended():
        host.up()
    host.close()


def rules(host: Host) -> str:
    return on(host, "nft", "list", "ruleset")


def on(host: Host, *command: str) -> str:
    return subprocess.run([*host.enter, *command], capture_output=True, text=True, check=True).stdout


def test_down_leaves_nothing_and_up_makes_it_again(host: Host) -> None:
    host.dockyard("busybox")
    host.docker("network", "create", "--ipv6", "app")
    before = host.links("bridge"), host.out("network", "inspect", "app")
    assert len(before[0]) == 2
    host.docker("run", "--rm", "--network", "app", "busybox", "true")
    host.down()
    until(lambda: not host.links("bridge") and not host.links("veth"), 30)
    assert rules(host) == ""
    host.up()
    assert (host.links("bridge"), host.out("network", "inspect", "app")) == before
    assert "eth0" in host.out("run", "--rm", "--network", "app", "busybox", "ls", "/sys/class/net")
    host.docker("network", "rm", "app")


def test_with_a_container_all_stays_and_an_upgrade_takes_nothing(host: Host) -> None:
    host.dockyard("busybox")
    index = bridge_index(host)
    for service in ("netdriver", "execdriver"):
        host.restart(service)
    host.dockyard("upgrade")
    assert bridge_index(host) == index
    host.docker("run", "-d", "--name", "web", "-p", "127.0.0.1:8080:80", "busybox", "sleep", "1000")
    held, table = host.links("veth"), rules(host)
    host.down()
    assert (host.links("veth"), rules(host), bridge_index(host)) == (held, table, index)
    host.up()
    host.docker("rm", "-f", "web")


def bridge_index(host: Host) -> str:
    return on(host, "ip", "-o", "link", "show", host.environ["DOCKYARD_BRIDGE"]).split(":")[0]
