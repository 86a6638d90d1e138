"""Logs, with a real monitor: kept, followed, rotated; whoever dies, no line is lost and none comes twice."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.execdriver.bundle import Bundle
from shared.protocol import LogPolicy, RuntimeDelete, RuntimeStart
from shared.runtime.logs.files import LogFiles, Part
from shared.runtime.logs.reader import read_log
from shared.runtime.logs.selection import Selection
from tests.contract.test_execdriver import Bench, bench, shared_rootfs, until

__all__ = ["bench", "shared_rootfs"]

pytestmark = pytest.mark.root
COUNT = "i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); done"
PACED = "i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); [ $((i %% 1000)) -ne 0 ] || usleep 30000; done"


def frames(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        stream, size = struct.unpack(">BxxxL", data[:8])
        found.append((stream, data[8 : 8 + size]))
        data = data[8 + size :]
    return found


class Logs:
    """Containers with a log policy of their own, and what a reader reads of them."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench

    def start(self, script: str, **policy: Any) -> RuntimeStart:
        job = self.bench.job("sh", "-c", script)
        job = RuntimeStart(**{**{f: getattr(job, f) for f in job.__struct_fields__}, "log": LogPolicy(**policy)})
        self.bench.do(job)
        return job

    def read(self, job: RuntimeStart, *, follow: bool = False, **wanted: Any) -> bytes:
        path = LogFiles(Path(job.directory)).current
        pieces = read_log(path, Selection(**wanted), follow=follow, ended=lambda: self.ended(job))
        return b"".join(pieces)

    def lines(self, job: RuntimeStart, **wanted: Any) -> list[bytes]:
        return self.read(job, tty=True, **wanted).splitlines()

    def ended(self, job: RuntimeStart) -> bool:
        return any(getattr(call, "container", "") == job.container for call in list(self.bench.bus.calls))

    def follow(self, job: RuntimeStart) -> Callable[[], list[bytes]]:
        found: list[list[bytes]] = []
        thread = threading.Thread(target=lambda: found.append(self.lines(job, follow=True)), daemon=True)
        thread.start()

        def result() -> list[bytes]:
            thread.join(60)
            return found[0]

        return result


@pytest.fixture
def logs(bench: Bench) -> Iterator[Logs]:
    yield Logs(bench)


def counted(number: int) -> list[bytes]:
    return [b"line %d" % n for n in range(number)]


def test_logs_are_kept_framed_and_followed(bench: Bench, logs: Logs) -> None:
    script = "for i in 1 2 3; do echo line $i; done; echo problem >&2; read x; echo last"
    job = bench.job("sh", "-c", script, open_stdin=True)
    stream = bench.attach(job.container)
    bench.do(job)
    connection = next(stream)
    lines = [(1, b"line 1\n"), (1, b"line 2\n"), (1, b"line 3\n"), (2, b"problem\n")]
    until(lambda: sorted(frames(logs.read(job))) == lines)
    assert frames(logs.read(job, stderr=False, tail=2)) == [(1, b"line 2\n"), (1, b"line 3\n")]
    assert logs.read(job, tty=True, stdout=False) == b"problem\n"
    assert not logs.read(job, tail=0)
    assert logs.read(job, timestamps=True, tty=True, tail=1).count(b"Z ") == 1
    followed: list[bytes] = []
    follower = threading.Thread(target=lambda: followed.append(logs.read(job, follow=True)))
    follower.start()
    connection.send(b"\n")
    follower.join(10)
    connection.close()
    assert sorted(frames(followed[0])) == sorted([*lines, (1, b"last\n")])


def test_long_lines_come_whole(logs: Logs) -> None:
    job = logs.start("head -c 100000 /dev/zero | tr '\\0' x; echo")
    until(lambda: logs.ended(job))
    assert b"".join(data for _, data in frames(logs.read(job))) == b"x" * 100000 + b"\n"
    assert logs.read(job, tty=True, timestamps=True).count(b"Z ") == 1


def test_what_has_no_newline_yet_is_not_shown_before_the_end(logs: Logs) -> None:
    job = logs.start("printf half; sleep 0.3; echo _; printf rest; sleep 0.3")
    until(lambda: b"half" in LogFiles(Path(job.directory)).current.read_bytes())
    assert logs.read(job, tty=True) == b""
    assert logs.read(job, tty=True, follow=True) == b"half_\nrest"
    assert logs.read(job, tty=True, tail=1) == b"rest"


def test_rotation_under_load_loses_and_doubles_nothing(logs: Logs) -> None:
    number = 60_000
    job = logs.start("sleep 0.2; " + COUNT % number, max_size=100_000, max_file=1000)
    followed = logs.follow(job)
    until(lambda: logs.ended(job), 60)
    assert followed() == counted(number)
    assert logs.lines(job) == counted(number)
    assert len(LogFiles(Path(job.directory)).parts()) > 5


def test_no_more_files_are_kept_than_asked_for_and_the_newest_lines_are_in_them(logs: Logs) -> None:
    number = 60_000
    job = logs.start(PACED % number, max_size=50_000, max_file=3)
    followed = logs.follow(job)
    until(lambda: logs.ended(job), 60)
    logs.bench.do(RuntimeDelete(container=job.container))
    parts = LogFiles(Path(job.directory)).parts()
    assert len([part for part in parts if part.path.stat().st_size]) <= 3
    kept = logs.lines(job)
    assert kept == counted(number)[-len(kept) :]
    assert followed() == counted(number)
    assert logs.lines(job, tail=5) == counted(number)[-5:]


def test_old_files_are_compressed_and_read_all_the_same(logs: Logs) -> None:
    number = 60_000
    job = logs.start(PACED % number, max_size=200_000, max_file=1000, compress=True)
    until(lambda: list(Path(job.directory).glob("container.log.*.gz")), 30)
    assert logs.lines(job, follow=True) == counted(number)
    assert logs.lines(job, tail=number - 10) == counted(number)[10:]


def test_a_reader_that_does_not_read_holds_nobody_up(logs: Logs) -> None:
    job = logs.start(COUNT % 20_000, max_size=20_000, max_file=2)
    stalled = read_log(LogFiles(Path(job.directory)).current, Selection(), follow=True, ended=lambda: logs.ended(job))
    next(stalled)
    until(lambda: logs.ended(job), 30)
    assert logs.lines(job, tail=1) == [b"line 19999"]


def test_none_keeps_nothing(logs: Logs) -> None:
    job = logs.start("echo secret", driver="none")
    until(lambda: logs.ended(job))
    assert not list(Path(job.directory).glob("container.log*"))


def test_a_full_disk_ends_neither_container_nor_rotation(bench: Bench, logs: Logs, tmp_path: Path) -> None:
    small = tmp_path / "root/containers"
    small.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(small)], check=True)
    try:
        script = (
            COUNT % 20_000 + "; trap 'echo after; exit 7' TERM; touch /dev/shm/counted; while :; do sleep 0.1; done"
        )
        job = logs.start(script, max_size=50_000, max_file=100)
        until(lambda: os.statvfs(small).f_bavail == 0, 30)
        pid = Bundle.of(bench.config.run, job.container).init_pid()
        until(Path(f"/proc/{pid}/root/dev/shm/counted").exists, 30)
        time.sleep(0.6)  # some looks at a disk that is full; and all that was said has been dropped
        assert not logs.ended(job)
        files = LogFiles(Path(job.directory))
        in_use = files.current_inode(), Part(0, files.coming).inode()
        for part in files.numbered():
            if part.inode() not in in_use:
                part.path.unlink()
        bench.driver.containers.kill(job.container, 15)
        assert bench.exit_of(job.container).exit_code == 7
        assert logs.lines(job)[-1].endswith(b"after")  # behind what was cut off in the middle, maybe
    finally:
        bench.do(RuntimeDelete(container=job.container))
        subprocess.run(["umount", str(small)], check=True)


DIE_AT = """
import os, sys
from pathlib import Path
from services.execdriver.bundle import Bundle
from services.execdriver.rotation import Rotation, _Watched
from shared.protocol import LogPolicy
from shared.runtime.logs.files import LogFiles
run, container, directory, step = sys.argv[1:]
rotation, left = Rotation(), int(step)
watched = _Watched(Bundle.of(Path(run), container), LogFiles(Path(directory)), LogPolicy(max_size=1, max_file=1000))
STEPS = ("open", "os.link", "os.remove", "os.rename", "os.listdir", "fcntl.ioctl")
def count(event, arguments):
    global left
    if event in STEPS:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), 9)
sys.addaudithook(count)
rotation._rotate(watched)
rotation._rotate(watched)
"""


def test_whoever_rotates_may_be_killed_at_any_step(logs: Logs) -> None:
    """For each step, one process is killed before it, the next one finishes, all while the container writes."""
    script = "i=0; while :; do echo line $i; i=$((i+1)); [ $((i % 100)) -ne 0 ] || usleep 10000; done"
    job = logs.start(script, max_size=1 << 40, max_file=1000)
    files = LogFiles(Path(job.directory))
    followed = logs.follow(job)
    for step in range(30):
        if rotate(logs, job, step) == 0:
            break
        before = files.current_inode()
        assert rotate(logs, job, 1000) == 0
        until(lambda before=before: files.current_inode() != before)
    assert 8 < step < 29
    until(lambda: files.current.stat().st_size)
    logs.bench.driver.containers.kill(job.container, 9)
    until(lambda: logs.ended(job))
    lines = logs.lines(job)
    assert lines[:-1] == counted(len(lines) - 1)
    assert followed() == lines
    assert sum(part.path.stat().st_size > 0 for part in files.parts()) > step


def rotate(logs: Logs, job: RuntimeStart, step: int) -> int:
    """Rotate in a process of its own, which is killed before ``step``; returns its exit status."""
    command = [sys.executable, "-c", DIE_AT, str(logs.bench.config.run), job.container, job.directory, str(step)]
    return subprocess.run(command, check=False, timeout=30).returncode
