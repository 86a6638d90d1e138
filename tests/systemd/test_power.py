"""A whole kernel of its own (`umlboot`): cgroup v2 alone, a clock that jumps, power that is cut in the midst of work.

It takes the Debian package user-mode-linux, and minutes: each system call of it is several of the host's.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import until
from tests.systemd.conftest import API, CHECKOUT, DOCKYARD, UNITS

pytestmark = [pytest.mark.root, pytest.mark.long, pytest.mark.timeout(1200)]

UMLBOOT = Path(__file__).with_name("umlboot")
PATIENCE = 400.0  # seconds of one boot, with all that is done in it
# that kernel has no nftables; who waits for it to answer has patience
START = f"""\
set -ex
export DOCKER_HOST={API} PATH={DOCKYARD.parent}:$PATH
mkdir -p /var/lib/dockyard /etc/dockyard /etc/systemd/system/dockyard.service.d
mount /dev/ubdb /var/lib/dockyard
for unit in {" ".join(UNITS)}; do
  sed 's,/usr/bin/dockyard,{DOCKYARD},' {CHECKOUT}/packaging/systemd/$unit > /etc/systemd/system/$unit
done
printf '[Service]\\nWatchdogSec=120\\n' > /etc/systemd/system/dockyard.service.d/slow.conf
printf 'firewall = false\\nip-masq = false\\n' > /etc/dockyard/dockyard.toml
getent group docker || groupadd --system docker
systemctl daemon-reload
trap 'systemctl status --no-pager dockyard.service; journalctl -u dockyard --no-pager | tail -n 50' ERR
systemctl start dockyard.service
"""
WORK = """\
dockyard busybox
docker run -d --name policy --restart always busybox sleep 1000000
docker volume create data
docker run --rm -v data:/data busybox sh -c 'echo precious > /data/kept; sync'
set +ex
while :; do docker save busybox | docker load; done &
for number in $(seq 1000); do docker create --name c$number busybox true && echo c$number >> /shared/made; done
"""
LOOK = """\
for try in $(seq 100); do docker ps --format '{{.Names}}' | grep -x policy && break; sleep 0.5; done > /shared/policy
docker ps -a --format '{{.Names}}' > /shared/names
docker info > /shared/info
docker run --rm -v data:/data busybox cat /data/kept > /shared/kept
docker create --name afterwards busybox true
"""
LIMITS = """\
cd /sys/fs/cgroup
docker run --rm --memory 64m --pids-limit 50 --cpus 0.5 busybox \\
  cat $PWD/memory.max $PWD/pids.max $PWD/cpu.max > /shared/limits
docker run --name eater --memory 16m busybox sh -c 'x=a; while :; do x=$x$x; done' || true
docker inspect -f '{{.State.ExitCode}} {{.State.OOMKilled}}' eater > /shared/eater
docker pause policy; docker inspect -f '{{.State.Status}}' policy > /shared/paused; docker unpause policy
main=$(systemctl show --property MainPID --value dockyard.service)
{ cat /proc/$main/oom_score_adj; grep 'open files' /proc/$main/limits; } > /shared/service
"""
CLOCK = """\
stack() {
  systemctl show --property NRestarts,MainPID dockyard.service
  dockyard ps --json | grep -o '"pid": *[0-9]*' | sort
}
docker run -d --name checked --health-cmd true --health-interval 1s busybox sleep 1000000
stack > /shared/before
for jump in '10 years' '-11 years'; do
  date --set "$jump"
  docker ps --format '{{.Names}}' | grep -x policy
  docker run --rm busybox echo hello >> /shared/hello
  sleep 5
done
stack > /shared/after
docker inspect -f '{{.State.Health.Status}}' checked > /shared/health
"""


class Kernel:
    """Boots on the same disk, one after the other; what scripts write to /shared is in ``shared``."""

    def __init__(self, directory: Path) -> None:
        self.shared, self.disk = directory / "shared", directory / "disk"
        self.shared.mkdir()
        with self.disk.open("wb") as disk:
            disk.truncate(1 << 30)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.disk], check=True)

    def boot(self, *parts: str) -> subprocess.Popen[bytes]:
        """Begin a boot in which START and these scripts are carried out."""
        (self.shared / "script").write_text("".join([START, *parts, "touch /shared/done\n"]))
        (self.shared / "done").unlink(missing_ok=True)
        command = [UMLBOOT, "run", self.shared / "script", self.shared, self.disk, "--bind", CHECKOUT]
        return subprocess.Popen(command)

    def run(self, *parts: str) -> None:
        """Boot, carry out these scripts, and halt."""
        with self.boot(*parts) as process:
            try:
                process.wait(PATIENCE)
            finally:
                process.terminate()
        assert (self.shared / "done").exists(), self.told()

    def told(self) -> str:
        output = self.shared / "output"
        return output.read_text(errors="replace")[-4000:] if output.exists() else "it said nothing"

    def said(self, name: str) -> list[str]:
        """Return the lines of a file that a script has written."""
        path = self.shared / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    tried = subprocess.run([UMLBOOT, "try"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no kernel can be booted here: {tried.stderr.strip()}")
    directory = Path(tempfile.mkdtemp(prefix="dyuml", dir="/var/tmp"))
    yield Kernel(directory)
    shutil.rmtree(directory)


def test_after_power_was_cut_in_the_midst_of_work_all_that_was_acknowledged_is_there(kernel: Kernel) -> None:
    """What was in the page cache is lost, as with a real host, and unlike when only processes are killed."""
    seed = int(os.environ.get("SEED") or random.randrange(1 << 32))
    print(f"SEED={seed}")
    later = random.Random(seed).uniform(0, 3)  # seconds
    with kernel.boot(WORK) as process:
        try:
            until(lambda: len(kernel.said("made")) > 3 or process.poll() is not None, PATIENCE, kernel.told())
            assert process.poll() is None, kernel.told()
            time.sleep(later)
        finally:
            process.terminate()
    made = kernel.said("made")
    kernel.run(LOOK)
    assert {*made, "policy"} <= {*kernel.said("names")}
    assert kernel.said("policy") == ["policy"]
    assert kernel.said("kept") == ["precious"]
    assert "Cgroup Version: 2" in "\n".join(kernel.said("info"))
    assert "quarantined" not in "\n".join(kernel.said("info"))


def test_cgroup_v2_alone_and_a_clock_that_jumps(kernel: Kernel) -> None:
    kernel.run("dockyard busybox; docker run -d --name policy busybox sleep 1000000\n", LIMITS, CLOCK)
    assert kernel.said("limits") == [str(64 << 20), "50", "50000 100000"]
    assert kernel.said("eater") == ["137 true"]
    assert kernel.said("paused") == ["paused"]
    assert [line.split() for line in kernel.said("service")] == [
        ["-500"], ["Max", "open", "files", "1024", "524288", "files"],
    ]  # fmt: skip
    assert kernel.said("hello") == ["hello"] * 2
    assert kernel.said("before") == kernel.said("after")
    assert "NRestarts=0" in kernel.said("after")
    assert kernel.said("health") == ["healthy"]
