"""The package of another version is installed over one whose containers run."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd.conftest import CHECKOUT, Machine, new_directory
from tests.systemd.test_service import assert_untouched, run_counter

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(1200)]

EARLIER = "0.0.1"


def build(source: Path, directory: Path) -> Path:
    subprocess.run(["bash", source / "packaging/deb/build.sh", sys.executable, directory], check=True, timeout=600)
    (made,) = directory.glob("dockyard_*.deb")
    return made


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return one that calls itself earlier, and ours."""
    directory = tmp_path_factory.mktemp("packages")
    source = directory / "source"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, check=True, capture_output=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (CHECKOUT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, source / name)
    project = source / "pyproject.toml"
    lines = project.read_text().splitlines(keepends=True)
    project.write_text("".join(f'version = "{EARLIER}"\n' if line.startswith("version = ") else line for line in lines))
    return build(source, directory / "earlier"), build(CHECKOUT, directory / "ours")


@pytest.fixture
def installed(packages: tuple[Path, Path]) -> Iterator[Machine]:
    """A machine with the earlier one, and ours in /var/tmp."""
    data = new_directory()
    machine = Machine(f"dypk{packages[0].stat().st_mtime_ns % 10**6}", data)
    machine.boot(installed=False)
    for package in packages:
        machine.put(package, f"/var/tmp/{package.name}")
    machine.run("dpkg", "--install", f"/var/tmp/{packages[0].name}", timeout=300)
    yield machine
    machine.down()
    shutil.rmtree(data)


def test_containers_and_clients_notice_nothing_of_it(installed: Machine, packages: tuple[Path, Path]) -> None:
    dockyard = "/usr/bin/dockyard"
    installed.systemctl("start", "dockyard.service")
    installed.run(dockyard, "busybox")
    counter = run_counter(installed)
    before = installed.show("MainPID", "NRestarts")
    assert f"dockyard {EARLIER}" in installed.sh(f"{dockyard} version")
    upgraded, failed, asked = threading.Event(), [], 0

    def ask() -> None:
        nonlocal asked
        while not upgraded.is_set():
            answer = installed.run("docker", "ps", "--format", "{{.Names}}", check=False)
            asked += 1
            if answer.stdout != "counter\n":
                failed.append(answer)

    client = threading.Thread(target=ask)
    client.start()
    try:
        installed.run("dpkg", "--install", f"/var/tmp/{packages[1].name}", timeout=300)
    finally:
        upgraded.set()
        client.join()
    assert not failed
    assert asked > 5
    version = packages[1].name.split("_")[1]
    assert installed.sh(f"{dockyard} version").splitlines()[0] == f"dockyard {version}"
    assert installed.show("MainPID", "NRestarts") == before
    assert installed.state() == "active"
    assert_untouched(installed, counter)
    environments = {Path(path).name for path in installed.sh("ls -d /usr/lib/dockyard/venv-*").split()}
    assert [name.split("-")[1] for name in environments] == [version]
    maps = " ".join(f"/proc/{pid}/maps" for pid in installed.processes())
    assert {*installed.sh(f"grep --no-filename --only-matching 'venv-[^/]*' {maps}").split()} == environments


def test_what_stays_of_a_removed_package_and_what_of_a_purged_one(
    installed: Machine, packages: tuple[Path, Path]
) -> None:
    units, again = ("dockyard.socket", "dockyard.service"), ("dpkg", "--install", f"/var/tmp/{packages[1].name}")

    def enabled() -> list[str]:
        return str(installed.systemctl("is-enabled", *units, check=False).stdout).split()

    installed.docker("volume", "create", "data")
    installed.run("dpkg", "--remove", "dockyard", timeout=120)
    assert "dockyard" not in installed.sh("ls /usr/lib /usr/bin /usr/lib/systemd/system")
    assert not installed.processes()
    # as it was enabled before, so it is again, and the first client starts it
    installed.run(*again, timeout=300)
    assert enabled() == ["enabled", "enabled"]
    assert installed.docker("volume", "ls", "--quiet") == "data"
    installed.systemctl("disable", "--now", *units)
    installed.run("dpkg", "--remove", "dockyard", timeout=120)
    installed.run(*again, timeout=300)
    assert enabled() == ["disabled", "disabled"]
    assert installed.show("ActiveState", unit="dockyard.socket") == {"ActiveState": "inactive"}
    # what is mounted there, and busy, is nobody's to delete; /var/lib/dockyard itself is a mount point here
    data = "/var/lib/dockyard/volumes/data/_data"
    installed.sh(f"mount -t tmpfs share {data}; touch {data}/kept")
    installed.sh(f"cd {data}; systemd-run --quiet --unit busy --working-directory {data} sleep 1000")
    refused = installed.run("dpkg", "--purge", "dockyard", timeout=120)
    assert f"/var/lib/dockyard is left: {data} is in use" in refused.stderr
    assert installed.sh(f"ls {data}") == "kept"
    installed.systemctl("stop", "busy.service")
    installed.run(*again, timeout=300)
    installed.run("dpkg", "--purge", "dockyard", timeout=120)
    left = "find / -xdev -name '*dockyard*' ! -path '/proc/*' ! -path '/var/tmp/*' ! -path '/var/cache/man/*'"
    found = [path for path in installed.sh(left).splitlines() if not path.startswith(str(CHECKOUT))]
    assert [path for path in found if path.startswith(("/usr", "/etc", "/run", "/var"))] == ["/var/lib/dockyard"]
    assert installed.sh("ls -A /var/lib/dockyard /run | grep -c dockyard || true") == "1"  # its name in the list
