"""The operator's book, typed in as it stands, on a machine where the package is installed by its first command."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.conftest import CHECKOUT, DOCKYARD, Machine, new_directory

pytestmark = [pytest.mark.root, pytest.mark.long]

BOOK = (CHECKOUT / "docs/operations.md").read_text()
OLD = {
    "DOCKYARD_ROOT": "/var/lib/dockyard/old", "DOCKYARD_RUN": "/run/old", "DOCKYARD_BRIDGE": "old0",
    "DOCKYARD_BIP": "10.217.0.1/24", "DOCKYARD_HOSTS": "unix:///run/docker.sock", "DOCKYARD_CGROUP_PARENT": "/old",
}  # fmt: skip


def sections() -> dict[str, list[str]]:
    """Return the commands of each section; one block is one shell, as an operator has it."""
    found: dict[str, list[str]] = {}
    for section in BOOK.split("\n## ")[1:]:
        blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
        found[section.partition("\n")[0]] = [re.sub(r"^# ", "", block, flags=re.MULTILINE) for block in blocks]
    return found


SECTIONS = sections()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("dist")
    subprocess.run(["bash", CHECKOUT / "packaging/deb/build.sh", sys.executable, directory], check=True, timeout=600)
    (made,) = directory.glob("dockyard_*.deb")
    return made


@pytest.fixture(scope="module")
def operator(package: Path) -> Iterator[Machine]:
    data = new_directory()
    machine = Machine(f"dyop{package.stat().st_mtime_ns % 10**6}", data)
    machine.boot(installed=False)
    machine.run("mkdir", "/var/tmp/install")
    machine.put(package, f"/var/tmp/install/{package.name}")
    yield machine
    machine.down()
    shutil.rmtree(data)


def test_the_book_has_what_an_operator_looks_for() -> None:
    assert list(SECTIONS) == [
        "Install", "Configure", "See whether it is well", "Scale the API's workers", "Inject a job", "Read a trace",
        "Upgrade", "Recover", "Back up and restore", "Migrate from dockerd", "Remove",
    ]  # fmt: skip
    assert all(SECTIONS.values())


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section(operator: Machine, section: str) -> None:
    if section == "Migrate from dockerd":
        begin_old(operator)
    for block in SECTIONS[section]:
        script = (
            f"cd /var/tmp/install; export DOCKER_HOST=unix:///run/dockyard/docker.sock\nset -ex -o pipefail\n{block}"
        )
        done = operator.run("bash", "-c", script, check=False, timeout=150)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        for line in block.splitlines():
            if "--filter name=web" in line:
                assert "web" in done.stdout
    if section == "Migrate from dockerd":
        assert done.stdout.splitlines()[-1] == "hello"
        operator.run("env", *(f"{key}={value}" for key, value in OLD.items()), str(DOCKYARD), "down")


def begin_old(machine: Machine) -> None:
    """Have another engine on dockerd's socket, with an image and a volume."""
    variables = [f"{key}={value}" for key, value in OLD.items()]
    machine.run("env", *variables, str(DOCKYARD), "up", "--detach")
    machine.run("env", *variables, str(DOCKYARD), "busybox")
    docker = "docker -H unix:///run/docker.sock"
    machine.sh(f"{docker} tag busybox old:1; {docker} volume create data")
    machine.sh(f"{docker} run --rm -v data:/data busybox sh -c 'echo hello > /data/greeting'")
