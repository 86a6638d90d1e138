"""Bundle: a container's directory under RUN/containers, which says all there is to know after a restart.

| file          | written by | holds                                                       |
|---------------|------------|-------------------------------------------------------------|
| start.json    | us         | generation, cgroup, shm, log and runtime, before anything is made    |
| config.json   | us         | the OCI configuration                                       |
| pidfile       | conmon     | pid of the container's init                                 |
| monitor.pid   | conmon     | pid of conmon                                               |
| attach, winsz | conmon     | its attach socket; a fifo for the terminal's size           |
| ctl           | conmon     | a fifo for messages, as to reopen the log                   |
| shm           | us         | a tmpfs, if others may join its IPC namespace               |
| signals       | us         | which were sent, for which job (`services.execdriver.signals`) |
| lost          | us         | nothing; the monitor died, and with it the exit status      |
| oom           | conmon     | nothing; the kernel told it that memory ran out             |

The exit status is RUN/exits/<id>, written by conmon.

An exec has one too, under RUN/execs: process.json in place of config.json, its exit status in `exit`, the runtime's
complaints in `runtime.log`, and until its process runs the fifo `gate` (see `services.execdriver.monitor`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shutil
import signal
import time
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import msgspec

from services.execdriver.cgroups import Cgroup
from shared.protocol import DockyardError, LogPolicy

__all__ = ["LOST_EXIT_CODE", "Bundle", "ExecBundle", "Process", "Start", "end"]

LOST_EXIT_CODE = 137  # of what ended with nobody there to see how, as containerd has it
END_TIMEOUT, POLL_INTERVAL = 5.0, 0.002  # seconds, for what is killed
log = logging.getLogger("dockyard.execdriver")
LOST = "the monitor was lost, and with it the exit status"


class Start(msgspec.Struct, frozen=True):
    """``shm``: the directory of the host that is /dev/shm inside, if it is not the container's alone."""

    generation: int
    cgroup: str
    shm: str = ""
    container: str = ""  # of an exec
    directory: str = ""  # of the container, where its log is
    log: LogPolicy = LogPolicy(driver="none")
    runtime: str = ""  # its name; empty is the configured one


@dataclass(frozen=True)
class Process:
    """A process held by its pidfd, so that its number cannot be mistaken for another's."""

    pid: int
    pidfd: int

    @classmethod
    def open(cls, pid: int) -> Process | None:
        """Return None if there is no such process (any more)."""
        if pid <= 0:
            return None
        try:
            return cls(pid, os.pidfd_open(pid))
        except ProcessLookupError:
            return None

    def lives(self, seconds: float = 0.0) -> bool:
        """Say whether it has not ended after so long; one that nobody has waited for yet has."""
        poller = select.poll()
        poller.register(self.pidfd, select.POLLIN)
        return not poller.poll(seconds * 1000)

    def close(self) -> None:
        os.close(self.pidfd)


def end(process: Process | None) -> None:
    """SIGKILL a process, and close it; none, and one that has ended, is no error."""
    if process is None:
        return
    try:
        signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
    except ProcessLookupError:
        log.debug("it has ended pid=%d", process.pid)
    finally:
        process.close()


@dataclass(frozen=True)
class Bundle:
    container: str
    directory: Path
    exit_file: Path

    @property
    def id(self) -> str:
        """What the monitor is known by."""
        return self.container

    @classmethod
    def of(cls, run: Path, container: str) -> Bundle:
        return cls(container, run / "containers" / container, run / "exits" / container)

    def create(self, start: Start) -> None:
        """Begin a start: an empty directory that knows its generation."""
        self.remove()
        self.directory.mkdir(mode=0o700, parents=True)
        self.write("start.json", msgspec.json.encode(start))

    def write(self, name: str, data: bytes) -> Path:
        """Write a file whole or not at all."""
        temporary, path = self.directory / f".{name}", self.directory / name
        temporary.write_bytes(data)
        temporary.rename(path)
        return path

    def start(self) -> Start | None:
        try:
            return msgspec.json.decode((self.directory / "start.json").read_bytes(), type=Start)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def ran_out_of_memory(self, cgroup: str) -> bool:
        """Say whether the kernel killed something in the cgroup for memory; if that has gone, what it told the monitor.

        systemd removes the cgroup with its scope as soon as the monitor has ended.
        """
        counted = Cgroup(cgroup).oom_killed()
        return (self.directory / "oom").exists() if counted is None else counted

    def init_pid(self) -> int:
        return self._pid("pidfile")

    def init(self) -> Process | None:
        """Return the container's init if it lives: a process of that number inside the container's cgroup."""
        process, start = Process.open(self.init_pid()), self.start()
        if process is None or start is None:
            return None
        try:
            if process.lives() and start.cgroup in Path(f"/proc/{process.pid}/cgroup").read_text():
                return process
        except OSError:
            pass
        process.close()
        return None

    def monitor_pid(self) -> int:
        """Return conmon's pid if that process is still this container's conmon, else 0."""
        pid = self._pid("monitor.pid")
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return 0
        return pid if self.id.encode() in words else 0

    def makers(self) -> list[int]:
        """Return the pids of its monitor and of the runtime under that, both told ``--bundle DIRECTORY``.

        A monitor that was just started has no pid file yet.
        """
        wanted, found = (b"--bundle", str(self.directory).encode()), []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):  # it has ended
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    if wanted in pairwise(words):
                        found.append(int(entry.name))
        return found

    def end_makers(self) -> None:
        """End what is making it, until there is nothing. Errors: DockyardError (they do not die)."""
        deadline = time.monotonic() + END_TIMEOUT
        while pids := self.makers():
            if time.monotonic() > deadline:
                raise DockyardError(f"processes that make {self.id} cannot be killed: {pids}")
            for pid in pids:
                end(Process.open(pid))
            time.sleep(POLL_INTERVAL)

    def _pid(self, name: str) -> int:
        try:
            return int((self.directory / name).read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def exit(self) -> tuple[int, float] | None:
        """Return (exit code, time of the exit in seconds since the epoch) once conmon has written it."""
        try:
            text, status = self.exit_file.read_text(), self.exit_file.stat()
            return int(text), status.st_mtime
        except (FileNotFoundError, ValueError):
            return None

    def lose_exit(self) -> None:
        """Note an exit whose status nobody knows."""
        (self.directory / "lost").touch()
        self.exit_file.write_text(str(LOST_EXIT_CODE))

    def exit_error(self) -> str:
        """Say why the exit status is not the process's own; empty if it is."""
        return LOST if (self.directory / "lost").exists() else ""

    def remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        self.exit_file.unlink(missing_ok=True)


@dataclass(frozen=True)
class ExecBundle(Bundle):
    """``container`` is the one the exec runs in."""

    exec: str

    @property
    def id(self) -> str:
        return self.exec

    @classmethod
    def of_exec(cls, run: Path, exec_id: str, container: str) -> ExecBundle:
        directory = run / "execs" / exec_id
        return cls(container, directory, directory / "exit", exec_id)

    @classmethod
    def found(cls, run: Path) -> list[ExecBundle]:
        """Return those on disk; ``container`` is empty where a bundle was only begun."""
        bundles = [cls.of_exec(run, entry.name, "") for entry in (run / "execs").iterdir()]
        starts = [bundle.start() for bundle in bundles]
        return [
            replace(b, container=start.container if start else "") for b, start in zip(bundles, starts, strict=True)
        ]

    @property
    def gate(self) -> Path:
        return self.directory / "gate"

    def create(self, start: Start) -> None:
        """Begin: the gate is there before the bundle counts as one."""
        self.remove()
        self.directory.mkdir(mode=0o700, parents=True)
        os.mkfifo(self.gate, 0o600)
        self.write("start.json", msgspec.json.encode(start))

    def is_waiting(self) -> bool:
        """Say whether the process has not been let run yet."""
        return not self.container or self.gate.exists()
