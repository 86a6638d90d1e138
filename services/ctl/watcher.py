"""Watcher: circus's, which counts the processes that ended unasked and is in no hurry with those that do so at once.

It lets one go while that still has work to end (`Retire`). And the commands that the operator has beside circus's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from circus.commands.base import Command
from circus.exc import MessageError
from circus.process import DEAD_OR_ZOMBIE, UNEXISTING, Process
from circus.watcher import Watcher
from psutil import NoSuchProcess
from tornado import gen

from services.ctl.children import ChildProcess
from services.ctl.forks import ForkServer

__all__ = ["EX_CONFIG", "RESTART_WINDOW", "BoundedWatcher", "Condition", "Restarts", "Retire", "Upgrade"]

RESTART_WINDOW = 60.0  # seconds
ENDED = (DEAD_OR_ZOMBIE, UNEXISTING)
EX_CONFIG = 78  # sysexits(3): a restart is no use
SHORT_LIFE = 2.0  # seconds; who ends sooner is started again later and later
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0  # seconds


class BoundedWatcher(Watcher):
    """Counts the processes that ended unasked, on a clock that nobody sets."""

    GRACE = 3.0  # seconds between SIGTERM and SIGKILL for those that an earlier arbiter started
    _process_class = ChildProcess

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.was_started = False
        self.configured = self.numprocesses  # how many circus.ini wants
        self._deaths: deque[float] = deque()
        self._deaths_of: Counter[int] = Counter()  # by circus's number of the process, which its successor takes over
        self._asked: set[int] = set()  # pids that scale, restart or stop ends
        self._births: dict[int, float] = {}  # by pid
        self._short_lives = 0  # in a row
        self._next_start = 0.0  # monotonic
        self.on_misconfigured: Callable[[str], object] = lambda name: None  # a process has ended with EX_CONFIG
        self.retire_timeout = 0.0  # seconds
        self.fork_server: ForkServer | None = None
        self._retired: dict[int, tuple[Process, float]] = {}  # by pid: until when they may go on (monotonic)

    @gen.coroutine
    def spawn_processes(self) -> Any:
        if time.monotonic() >= self._next_start:
            yield super().spawn_processes()

    def spawn_process(self, recovery_wid: Any = None) -> Any:
        self.was_started = True
        return super().spawn_process(recovery_wid)

    def kill_process(self, process: Any, *args: Any, **options: Any) -> Any:
        self._asked.add(process.pid)
        return super().kill_process(process, *args, **options)

    def notify_event(self, topic: str, msg: dict[str, Any]) -> None:
        super().notify_event(topic, msg)
        if topic == "spawn":
            self._asked.discard(msg["process_pid"])
            self._births[msg["process_pid"]] = time.monotonic()
        elif topic == "reap" and msg["exit_code"] == EX_CONFIG:
            self.on_misconfigured(self.name)

    def reap_process(self, pid: int, status: int | None = None) -> None:
        """Circus waits here, with its loop stopped, for a process that it believes to be ending: make it so."""
        process = self.processes.get(pid)
        if status is None and process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        super().reap_process(pid, status)
        if process is not None and pid not in self._asked:
            self._deaths.append(time.monotonic())
            self._deaths_of[process.wid] += 1
            self._plan_start(self._births.pop(pid, 0.0))

    def _plan_start(self, born: float) -> None:
        """The first that ends at once is replaced at once; those after it ever later, until one lives for a while."""
        now = time.monotonic()
        self._short_lives = self._short_lives + 1 if now - born < SHORT_LIFE else 0
        if self._short_lives > 1:
            self._next_start = now + min(FIRST_PAUSE * 2 ** (self._short_lives - 2), LONGEST_PAUSE)

    # -- who leaves: told to end, counted no more, and killed after `retire_timeout`; nothing else waits for that

    def retire(self, pids: list[int]) -> None:
        """Let these processes go, and have as many fewer; who is not there is left out."""
        for process in [self.processes.pop(pid) for pid in pids if pid in self.processes]:
            self._asked.add(process.pid)
            self._retired[process.pid] = (process, time.monotonic() + self.retire_timeout)
            self.numprocesses -= 1
            with contextlib.suppress(NoSuchProcess):
                process.send_signal(self.stop_signal)

    def oldest(self, count: int) -> list[int]:
        """Return the pids of the ``count`` processes that run for the longest time."""
        processes = sorted(self.processes.values(), key=lambda process: process.started)
        return [process.pid for process in processes[:count]]

    def manage_processes(self) -> Any:
        for process, deadline in list(self._retired.values()):
            if not process.is_alive():
                del self._retired[process.pid]
            elif time.monotonic() > deadline:
                self.send_signal_process(process, signal.SIGKILL, recursive=True)
        for pid in [pid for pid, process in self.processes.items() if process.status in ENDED]:
            self.reap_process(pid)  # it ended just now: circus would forget it, and nobody counted it
        return super().manage_processes()

    def get_active_processes(self) -> list[Process]:
        """Return those that a stop ends, too."""
        retired = [process for process, _ in self._retired.values() if process.is_alive()]
        return [*super().get_active_processes(), *retired]

    def restarts(self) -> int:
        """Return how many processes have ended unasked in the last `RESTART_WINDOW`."""
        while self._deaths and self._deaths[0] < time.monotonic() - RESTART_WINDOW:
            self._deaths.popleft()
        return len(self._deaths)

    def restarts_by_pid(self) -> dict[int, int]:
        """Return, for each process there is, how often those in its place have ended unasked since the start."""
        return {pid: self._deaths_of[process.wid] for pid, process in self.processes.items()}

    def what_is_down(self) -> str:
        """Say that fewer processes run than should, and since how many restarts; nothing if that is not so."""
        missing = self.numprocesses - len(self.processes)
        if missing <= 0:
            return ""
        pause = max(0.0, self._next_start - time.monotonic())
        return (
            f"{self.name} is down, ended {self.restarts()} times in {RESTART_WINDOW:.0f} s, next start in {pause:.0f} s"
        )


class Retire(Command):
    """\
    Have fewer processes of a watcher: those of ``pids``, or the ``count`` oldest. They end when their work is done.
    """

    name = "retire"
    properties = ["name"]

    def execute(self, arbiter: Any, props: dict[str, Any]) -> dict[str, Any]:
        watcher = self._get_watcher(arbiter, props["name"])
        watcher.retire(props.get("pids") or watcher.oldest(int(props.get("count", 0))))
        return {"numprocesses": watcher.numprocesses}


class Restarts(Command):
    """\
    Tell how often each process has been restarted because it ended unasked: {"restarts": {pid: times}}.
    """

    name = "restarts"

    def execute(self, arbiter: Any, props: dict[str, Any]) -> dict[str, Any]:
        return {"restarts": {pid: n for watcher in arbiter.watchers for pid, n in watcher.restarts_by_pid().items()}}


class Condition(Command):
    """\
    Tell how the arbiter is: {"condition": {"pid", "phase", "trouble", "generation", "draining": [pid]}, "down": {…}}.
    """

    name = "condition"

    def execute(self, arbiter: Any, props: dict[str, Any]) -> dict[str, Any]:
        down = {watcher.name: text for watcher in arbiter.watchers if (text := watcher.what_is_down())}
        return {"condition": arbiter.condition(), "down": down}


class Upgrade(Command):
    """\
    Begin an upgrade; `condition` tells how it goes.
    """

    name = "upgrade"

    def execute(self, arbiter: Any, props: dict[str, Any]) -> dict[str, Any]:
        refused = arbiter.on_upgrade()
        if refused:
            raise MessageError(refused)
        return {}
