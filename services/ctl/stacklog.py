"""Stack log: what the stack's processes say on stderr: in systemd's journal, or in RUN/dockyard.log (`up --detach`).

All processes append to that file, and hold it open: it is never renamed. When it is full, what it holds is copied to
RUN/dockyard.log.1, in place of what was there, and it begins anew.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from services.ctl.waiting import in_thread
from shared.runtime.slices import BOOTED

__all__ = ["Log", "LogLine", "bound", "keep_bounded", "log_file", "of_service", "search", "the_log", "unit_of"]

FULL = 20 << 20  # bytes
LOOK_INTERVAL = 5.0  # seconds
log = logging.getLogger("dockyard.arbiter")

HEAD = re.compile(r"(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) (?P<level>[A-Z]+) dockyard\.(?P<service>\S+) ")
JOURNAL = "jobs"  # whose lines say that a job began and ended: nothing that is not known of it
JOB = re.compile(r"\bjob=([0-9a-f]{32})\b")
FOLLOWING = 60  # lines of a traceback that are taken along
PARTS = {"jobs": "engine", "registry": "graphdriver"}  # names in the log that are a part of a service
UNIT = "dockyard.service"
JOURNALCTL = ("journalctl", "--output", "cat", "--no-pager", "--quiet")


@dataclass(frozen=True)
class LogLine:
    """One line; ``at`` is seconds since the epoch."""

    job: str
    at: float
    level: str
    service: str
    text: str


def log_file(run: Path) -> Path:
    return run / "dockyard.log"


def past_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.1")


def bound(file: Path, full: int = FULL) -> None:
    """Begin a full log anew. What is written between the copy and the cut is lost: at most a few lines."""
    if file.stat().st_size > full:
        shutil.copyfile(file, past_file(file))
        os.truncate(file, 0)


async def keep_bounded(file: Path) -> None:
    """Have a log never grow far beyond full, if it is where we write to ourselves; until cancelled."""
    while file.exists() and os.path.samestat(file.stat(), os.fstat(sys.stderr.fileno())):
        try:
            await in_thread(bound, file)
        except OSError as error:
            log.warning("the log is not bounded error=%s", error)
        await asyncio.sleep(LOOK_INTERVAL)


@dataclass(frozen=True)
class Log:
    """Either a file, or a unit of systemd's whose lines are in the journal."""

    file: Path
    unit: str = ""

    @property
    def is_there(self) -> bool:
        return bool(self.unit) or self.file.exists()

    def lines(self) -> Iterator[str]:
        """Yield all there is. What cannot be read has none."""
        files = [str(file) for file in (past_file(self.file), self.file) if file.exists()]
        if self.unit or files:
            yield from _output([*JOURNALCTL, "--unit", self.unit] if self.unit else ["cat", *files])

    def last(self, count: int) -> Iterable[str]:
        """Return the last lines; a journal may have years of them, and is not read from its beginning."""
        if self.unit:
            return _output([*JOURNALCTL, "--unit", self.unit, "--lines", str(count)])
        return deque(self.lines(), count)

    def follow(self) -> Iterator[str]:
        """Yield what comes from now on, until the caller goes."""
        if self.unit:
            yield from _output([*JOURNALCTL, "--unit", self.unit, "--follow", "--lines", "0"])
        else:
            yield from _output(["tail", "--lines", "0", "--follow=name", "--retry", str(self.file)])


def _output(command: list[str]) -> Iterator[str]:
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return
    assert process.stdout is not None
    try:
        for line in process.stdout:
            yield line.decode("utf-8", "replace").rstrip("\n")
    finally:
        process.terminate()
        process.stdout.close()
        process.wait()


def the_log(run: Path, pidfile: Path) -> Log:
    """Find where a stack writes; of one that does not run, where the last one has written."""
    file = log_file(run)
    try:
        proc = Path("/proc", pidfile.read_text().strip())
        if _writes_to_journal(proc):
            return Log(file, _unit((proc / "cgroup").read_text()))
    except OSError:
        return Log(file, UNIT if BOOTED.is_dir() and _has_written_since(UNIT, file) else "")
    return Log(file)


def _writes_to_journal(proc: Path) -> bool:
    """Say whether a process's stderr is the stream that it was given to the journal. Raises OSError."""
    stderr = (proc / "fd/2").stat()
    stream = f"JOURNAL_STREAM={stderr.st_dev}:{stderr.st_ino}"
    return stream.encode() in (proc / "environ").read_bytes().split(b"\0")


def _has_written_since(unit: str, file: Path) -> bool:
    """Say whether the journal has something of a unit's that is newer than a file, or there is no such file."""
    if not file.exists():
        return True
    newest = next(_output(["journalctl", "--quiet", "--unit", unit, "--lines", "1", "--output", "short-unix"]), "")
    when, _, _ = newest.partition(" ")
    return re.fullmatch(r"\d+\.\d+", when) is not None and float(when) > file.stat().st_mtime


def unit_of(pidfile: Path) -> str:
    """Return systemd's service whose main process the arbiter is; empty if systemd has not started it."""
    try:
        pid = pidfile.read_text().strip()
        environ = Path("/proc", pid, "environ").read_bytes().split(b"\0")
        return _unit(Path("/proc", pid, "cgroup").read_text()) if f"SYSTEMD_EXEC_PID={pid}".encode() in environ else ""
    except OSError:
        return ""


def _unit(cgroups: str) -> str:
    """Return the innermost service of a /proc/PID/cgroup."""
    names = re.findall(r"([^/\n]+\.service)", cgroups)
    return names[-1] if names else UNIT


def of_service(lines: Iterable[str], service: str, seen: set[str] | None = None) -> Iterator[str]:
    """Yield the lines of one service, with what follows them without a head of its own.

    ``seen`` gets the names of all services that have a line.
    """
    taken = False
    for line in lines:
        head = HEAD.match(line)
        if head is not None:
            name = PARTS.get(head["service"], head["service"])
            taken = name == service
            if seen is not None:
                seen.add(name)
        if taken:
            yield line


def search(lines: Iterable[str], jobs: Collection[str]) -> Iterator[LogLine]:
    """Yield the lines that carry the id of one of ``jobs``, and what follows them without a head of its own
    (tracebacks).
    """
    found: LogLine | None = None
    left = 0
    for line in lines:
        head = HEAD.match(line)
        if head is None:
            if found is not None and left > 0:
                left -= 1
                yield LogLine(found.job, found.at, found.level, found.service, line.rstrip("\n"))
            continue
        found, left = _about(head, line, jobs), FOLLOWING
        if found is not None:
            yield found


def _about(head: re.Match[str], line: str, jobs: Collection[str]) -> LogLine | None:
    job = next((match[1] for match in JOB.finditer(line) if match[1] in jobs), None)
    if job is None or head["service"] == JOURNAL:
        return None
    at = datetime.strptime(head["at"], "%Y-%m-%d %H:%M:%S,%f").timestamp()
    text = " ".join(JOB.sub("", line[head.end() :]).split())
    return LogLine(job, at, head["level"], head["service"], text)
