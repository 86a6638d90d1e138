"""Execs: commands in running containers, each under a monitor of its own. What must be known lies in bundles."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from services.execdriver import monitor
from services.execdriver.attach import hand_over
from services.execdriver.bundle import Bundle, ExecBundle, Process, Start, end
from services.execdriver.cgroups import expect_moves
from services.execdriver.exits import Exits
from services.execdriver.placement import Placement
from services.execdriver.process import build_process
from services.execdriver.reports import Reports
from services.execdriver.runtimes import RuntimeOf
from shared.bus.context import emit
from shared.protocol import (
    Conflict,
    DockyardError,
    ExecExited,
    RunningExec,
    RuntimeExec,
    RuntimeExecStarted,
    Ticket,
    Unavailable,
    encode_body,
)
from shared.runtime.config import Config

__all__ = ["Execs"]

HANDOVER_TIMEOUT = 10.0  # seconds that a ticket for a session is waited on
PID_TIMEOUT = 10.0  # seconds that a start which an earlier driver began may take
FREE_INTERVAL = 1.0  # seconds
EXIT_CODE_WORD = 49  # of /proc/PID/stat, counted from the state
log = logging.getLogger("dockyard.execdriver")

Issue = Callable[[Callable[[socket.socket], None]], Ticket]


class Handover:
    """A session's descriptor, waited for until it has been fetched, or another start of the same exec comes."""

    def __init__(self, bundle: ExecBundle) -> None:
        self._bundle = bundle
        self._over = threading.Event()
        self._fetched = False

    def serve(self, connection: socket.socket) -> None:
        self._fetched = hand_over(self._bundle, connection)
        self._over.set()

    def give_up(self) -> None:
        self._over.set()

    def wait(self) -> None:
        self._over.wait(HANDOVER_TIMEOUT)
        if not self._fetched:
            raise Unavailable(f"exec {self._bundle.exec}: nobody fetched the session")


class Execs:
    def __init__(self, config: Config, runtime_of: RuntimeOf, reports: Reports, placement: Placement) -> None:
        self._placement = placement
        self._run, self._runtime_of, self._reports = config.run, runtime_of, reports
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._handovers: dict[str, Handover] = {}
        self._exits: Exits[ExecBundle] = Exits(self._on_exit)
        self._there_are_some = threading.Event()
        (self._run / "execs").mkdir(mode=0o700, parents=True, exist_ok=True)
        self._adopt()
        threading.Thread(target=self._free_containers, name="free-containers", daemon=True).start()

    def start(self, job: RuntimeExec, issue: Issue) -> RuntimeExecStarted:
        """Run a command once; see `RuntimeExec`. ``issue`` makes a ticket of what serves it."""
        expect_moves()
        if handover := self._handovers.get(job.exec):
            handover.give_up()
        bundle = ExecBundle.of_exec(self._run, job.exec, job.container)
        with self._locks[job.exec]:
            if bundle.start() is not None and not bundle.is_waiting():
                return RuntimeExecStarted(pid=_await_pid(bundle))
            try:
                pid = self._start(bundle, job, issue)
            except BaseException:
                self._undo(bundle)
                raise
            self._exits.watch(bundle)
            self._there_are_some.set()
        return RuntimeExecStarted(pid=pid)

    def _start(self, bundle: ExecBundle, job: RuntimeExec, issue: Issue) -> int:
        container = Bundle.of(self._run, job.container)
        start, init = container.start(), container.init()
        if start is None or init is None or start.generation != job.generation:
            raise Conflict(f"container {job.container} is not running")
        try:
            process = build_process(job, container, Path(f"/proc/{init.pid}/root"))
        finally:
            init.close()
        _kill(bundle)
        bundle.create(Start(start.generation, start.cgroup, container=job.container))
        bundle.write("process.json", msgspec.json.encode(process))
        admit = partial(self._placement.admit_exec, start.cgroup)
        with monitor.prepared(bundle, self._runtime_of(start.runtime), job, admit) as let_run:
            if job.attach:
                self._hand_over(bundle, issue)
            return let_run()

    def _hand_over(self, bundle: ExecBundle, issue: Issue) -> None:
        """Have a session fetched. The monitor accepts it only after the gate; before it looks at output, though."""
        handover = self._handovers[bundle.exec] = Handover(bundle)
        try:
            emit(encode_body(issue(handover.serve)).decode(), stream="session")
            handover.wait()
        finally:
            del self._handovers[bundle.exec]

    def resize(self, exec_id: str, height: int, width: int) -> None:
        try:
            monitor.resize(ExecBundle.of_exec(self._run, exec_id, ""), height, width)
        except OSError as error:
            raise Conflict(f"exec {exec_id} is not running: {error.strerror}") from error

    def known(self) -> list[RunningExec]:
        """Return what runs or has ended; what has not been let run does not count."""
        bundles = [bundle for bundle in ExecBundle.found(self._run) if not bundle.is_waiting()]
        return [RunningExec(exec=b.exec, container=b.container, pid=b.init_pid()) for b in bundles]

    def _on_exit(self, bundle: ExecBundle, code: int, when: float) -> None:
        report = ExecExited(exec=bundle.exec, container=bundle.container, exit_code=code, exited_at=when)
        self._reports.submit(report, lambda: self._remove(bundle))

    def _adopt(self) -> None:
        """Find again what an earlier process of this driver started; what it had not let run is undone."""
        for bundle in ExecBundle.found(self._run):
            if bundle.is_waiting():
                log.warning("half-done exec removed exec=%s", bundle.exec)
                self._undo(bundle)
            else:
                self._exits.watch(bundle)
                self._there_are_some.set()

    def _free_containers(self) -> None:
        """End, for ever, monitors that keep a container from ending.

        One whose client does not read does not reap its process either, and for that the container's init waits.
        """
        while True:
            self._there_are_some.wait()
            time.sleep(FREE_INTERVAL)
            self._there_are_some.clear()
            try:
                for bundle in ExecBundle.found(self._run):
                    self._there_are_some.set()
                    self._free_container_of(bundle)
            except OSError as error:
                log.error("execs not looked after error=%s", error)

    def _free_container_of(self, bundle: ExecBundle) -> None:
        status = _unreaped(bundle.init_pid())
        if status is not None and not _executes(Bundle.of(self._run, bundle.container).init_pid()):
            log.warning("monitor ended, its client does not read exec=%s", bundle.exec)
            bundle.exit_file.write_text(str(_exit_code(status)))
            end(Process.open(bundle.monitor_pid()))

    def _undo(self, bundle: ExecBundle) -> None:
        _kill_unready(bundle)
        self._remove(bundle)

    def _remove(self, bundle: ExecBundle) -> None:
        bundle.remove()
        self._locks.pop(bundle.exec, None)


def _kill(bundle: ExecBundle) -> None:
    """End an exec's process and its monitor, if they live."""
    if bundle.exit() is not None:
        return  # its pid may be another's by now
    end(bundle.init())
    end(Process.open(bundle.monitor_pid()))


def _kill_unready(bundle: ExecBundle) -> None:
    """End the monitor of what has not been let run: it may not have said yet which process it is."""
    _kill(bundle)
    bundle.end_makers()


def _unreaped(pid: int) -> int | None:
    """Return the wait status of a process that has ended and nobody has waited for (proc_pid_stat(5)), else None."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return int(words[EXIT_CODE_WORD]) if words[0] == "Z" else None


def _exit_code(status: int) -> int:
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _executes(pid: int) -> bool:
    """Say whether a process has a program still: one that is about to end, or is not there, has none."""
    try:
        return bool(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        return False


def _await_pid(bundle: ExecBundle) -> int:
    """Return the pid of a start that has been let run. Errors: DockyardError (it came to nothing)."""
    deadline = time.monotonic() + PID_TIMEOUT
    while not (pid := bundle.init_pid()):
        if not bundle.monitor_pid() or time.monotonic() > deadline:
            raise DockyardError(f"exec {bundle.exec} did not start")
        time.sleep(0.005)
    return pid
