"""What hostile images and requests must not get: each row is a flaw that a container engine once had."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.protocol import DockyardError, HostConfig, InvalidArgument, RuntimeDelete, RuntimeList
from shared.runtime.logs.reader import read_log
from shared.runtime.logs.selection import Selection
from tests.contract.test_execdriver import Bench, bench, make_rootfs, shared_rootfs, until

__all__ = ["bench", "shared_rootfs"]

pytestmark = pytest.mark.root
MARK = "this is the host"


@pytest.fixture
def hostile(bench: Bench, tmp_path: Path) -> Bench:
    """A bench whose image may be changed; the file ``mark`` lies beside it on the host."""
    bench.rootfs = tmp_path / "hostile"
    make_rootfs(bench.rootfs)
    (tmp_path / "mark").write_text(MARK)
    return bench


def attempt(bench: Bench, script: str, **settings: Any) -> str:
    """Run a script; returns what it printed, or nothing if the container is refused."""
    job = bench.job("sh", "-c", script, **settings)
    try:
        bench.do(job)
    except DockyardError:
        assert not bench.do(RuntimeList())
        return ""
    bench.exit_of(job.container)
    bench.do(RuntimeDelete(container=job.container))
    path = Path(job.directory, "container.log")
    return b"".join(read_log(path, Selection(tty=True), follow=False, ended=lambda: True)).decode()


# -- descriptors (CVE-2016-9962, CVE-2024-21626)


def test_no_descriptor_of_the_host_is_inside(bench: Bench) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)  # of ours, as if somebody had forgotten it
    try:
        started = bench.do(bench.job("sleep", "60"))
    finally:
        os.close(reader)
        os.close(writer)
    until(lambda: Path(f"/proc/{started.pid}/comm").read_text() == "sleep\n")
    assert sorted(path.name for path in Path(f"/proc/{started.pid}/fd").iterdir()) == ["0", "1", "2"]


@pytest.mark.parametrize("number", range(3, 24))
def test_a_working_directory_among_the_descriptors_leads_nowhere(hostile: Bench, number: int) -> None:
    mark = "../" * 12 + str(hostile.rootfs.parent / "mark").lstrip("/")
    for working_dir in (f"/proc/self/fd/{number}", f"/proc/self/fd/{number}/.."):
        assert MARK not in attempt(hostile, f"cat {mark}", working_dir=working_dir)
    (hostile.rootfs / "link").symlink_to(f"/proc/self/fd/{number}")
    assert MARK not in attempt(hostile, f"cat {mark}", working_dir="/link")


# -- users (GO-2025-3528, CVE-2022-36109)


@pytest.mark.parametrize("user", ["4294967296", "-1", "4294967295", "0:4294967296", "2147483648:0"])
def test_no_user_wraps_to_root(bench: Bench, user: str) -> None:
    with pytest.raises(InvalidArgument):
        bench.do(bench.job("id", user=user))


@pytest.mark.parametrize(("user", "groups"), [("1000:1001", "1001"), ("guest", "25 1001"), ("", "0")])
def test_the_primary_group_is_among_the_additional_ones(bench: Bench, user: str, groups: str) -> None:
    """Else a program that changes its group leaves it, and with it what a file denies to that group."""
    _, out, _ = bench.run("grep", "^Groups:", "/proc/self/status", user=user)
    assert out.split()[1:] == groups.split()


# -- masked paths (CVE-2025-31133, CVE-2019-16884, CVE-2021-30465)

MASKED = "wc -c < /proc/interrupts"


def test_what_is_masked_cannot_be_uncovered(bench: Bench) -> None:
    for trick in (
        "umount /proc/interrupts",
        "mount -o remount,rw /proc",
        "mount -t proc p /tmp",
        "mount --bind /proc /tmp",
        "rm -f /dev/null; ln -s /proc/sys/kernel/core_pattern /dev/null",
        "mv /proc /proc2",
    ):
        script = f"({trick}) 2>/dev/null; {MASKED}; ls /sys/firmware | wc -l; : > /proc/sys/kernel/core_pattern"
        _, out, err = bench.run("sh", "-c", script)
        assert out.split() == ["0", "0"], trick
        assert "Read-only" in err or "denied" in err, trick


def replace(path: Path, target: str) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


TRAPS: dict[str, Callable[[Path], None]] = {
    "proc is a link": lambda root: replace(root / "proc", "/tmp"),
    "proc leads out": lambda root: replace(root / "proc", "../../../../../../tmp"),
    "sys is a link": lambda root: replace(root / "sys", "/tmp"),
    "dev is a link": lambda root: replace(root / "dev", "/tmp"),
    "null is a link": lambda root: replace(root / "dev" / "null", "/proc/sys/kernel/core_pattern"),
    "shm is a link": lambda root: replace(root / "dev" / "shm", "/proc"),
    "hosts leads out": lambda root: replace(root / "etc" / "hosts", "/../../../../mark"),
    "hosts is a link": lambda root: replace(root / "etc" / "hosts", str(root.parent / "mark")),
    "resolv.conf is proc's": lambda root: replace(root / "etc" / "resolv.conf", "/proc/sys/kernel/core_pattern"),
    "etc leads out": lambda root: replace(root / "etc", str(root.parent)),
}


@pytest.mark.parametrize("name", TRAPS)
def test_an_image_with_a_trap_is_refused_or_harmless(hostile: Bench, name: str) -> None:
    TRAPS[name](hostile.rootfs)
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    script = f"{MASKED}; (echo x > /etc/hosts; echo x > /etc/resolv.conf; echo x > /proc/sys/kernel/core_pattern) 2>&1"
    out = attempt(hostile, script)
    assert (hostile.rootfs.parent / "mark").read_text() == MARK
    assert {path.name for path in hostile.rootfs.parent.iterdir()} <= {"hostile", "mark", "root", "run"}
    assert Path("/proc/sys/kernel/core_pattern").read_text() == pattern
    assert out.split()[:1] in ([], ["0"]), out  # refused, or masked as ever


@pytest.mark.parametrize("source", ["/proc/1/root", "/proc/self/root", "/proc/1/cwd"])
def test_a_volume_target_does_not_lead_out(hostile: Bench, tmp_path: Path, source: str) -> None:
    replace(hostile.rootfs / "out", source)
    (tmp_path / "given").mkdir()
    host = HostConfig(shm_size=1 << 20, binds=[f"{tmp_path}/given:/out/tmp/landed"])
    attempt(hostile, "true", host=host)
    assert "/tmp/landed" not in Path("/proc/self/mounts").read_text()
    assert not Path("/tmp/landed").exists()


# -- what lies on the host (CVE-2021-41091)


def test_nobody_but_root_reads_what_a_container_is_made_of(bench: Bench) -> None:
    job = bench.job("sleep", "60")
    bench.do(job)
    for path, mode in (
        (bench.config.run / "containers", 0o700),
        (bench.config.run / "exits", 0o700),
        (bench.config.run / "oci", 0o700),
        (bench.config.run / "containers" / job.container, 0o700),
    ):
        assert path.stat().st_mode & 0o777 == mode, path
    assert not Path(job.directory).stat().st_mode & 0o007
    listed = subprocess.run(
        ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "ls", job.directory],
        capture_output=True, check=False,
    )  # fmt: skip
    assert listed.returncode != 0
