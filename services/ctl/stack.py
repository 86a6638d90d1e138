"""What the operator says to a running stack: ps, scale, restart, down. It speaks circus's protocol to the arbiter."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from circus.client import CircusClient
from circus.exc import CallError

from services.ctl.arbiter import control_endpoint
from services.ctl.startup import RUN_LOCK, take_lock

__all__ = ["ARBITER", "FORK_SERVER", "POOLS", "Process", "Stack", "StackError", "describe", "most_processes"]

ARBITER, FORK_SERVER = "arbiter", "forkserver"  # no services, but processes of the stack
RESTART_TIMEOUT = 30.0  # seconds
START_TIMEOUT = 10.0  # of a process in place of one that has ended
STOP_TIMEOUT = 90.0  # of parts that hang, each has its time
POOLS = ("apiserver",)  # services of which one process more or less is no matter
LEAST_LIMIT, LIMIT_PER_CORE = 32, 4
UPGRADE_TIMEOUT = 300.0
POLL_INTERVAL = 0.1


def most_processes() -> int:
    """Return how many of a pool may run: each takes memory, and what has no core only waits."""
    return max(LEAST_LIMIT, LIMIT_PER_CORE * (os.cpu_count() or 1))


class StackError(Exception):
    """The arbiter does not answer, or refuses."""


@dataclass(frozen=True)
class Process:
    """A process of the stack, with what it has forked of itself."""

    service: str
    pids: tuple[int, ...]  # itself first
    status: str  # as circus says: active, starting, stopping, …
    restarts: int | None  # times that one in its place ended unasked; None: not known
    started: float  # seconds since boot
    memory: int  # resident bytes
    cpu: float  # seconds of processor time

    @property
    def pid(self) -> int:
        return self.pids[0] if self.pids else 0


class Stack:
    """``timeout``: seconds that the arbiter may take to answer. Errors of all methods: StackError."""

    def __init__(self, run: Path, *, timeout: float = 10.0) -> None:
        self._run = run
        self._endpoint = control_endpoint(run)
        self._client = CircusClient(endpoint=self._endpoint, timeout=timeout)

    def close(self) -> None:
        self._client.stop()

    def _call(self, command: str, **properties: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self._client.send_message(command, **properties)
        except CallError as error:
            raise StackError(f"the arbiter does not answer ({error}); is the stack up?") from error
        if answer.get("status") == "error":
            raise StackError(str(answer.get("reason", answer)))
        return answer

    def services(self) -> list[str]:
        return sorted(self._call("list")["watchers"])

    def status(self, service: str) -> str:
        return str(self._call("status", name=service)["status"])

    def pids(self, service: str) -> list[int]:
        return sorted(self._call("list", name=service)["pids"])

    def _present(self, service: str) -> list[int]:
        pids = self.pids(service)
        if not pids:
            raise StackError(f"{service} has no process to replace at present: it is being started")
        return pids

    def restarts(self) -> dict[int, int]:
        """Return how often the process in the place of each pid has ended unasked; none if the arbiter cannot tell."""
        try:
            return {int(pid): int(times) for pid, times in self._call("restarts")["restarts"].items()}
        except StackError:
            return {}

    def _beside(self) -> tuple[dict[str, str], list[int], int]:
        """Return what is down, who only ends what it has begun, the fork server's pid; nothing if it cannot tell."""
        try:
            now = self.condition()
        except StackError:
            return {}, [], 0
        return now["down"], now["draining"], now.get("forkserver", 0)

    def processes(self) -> Iterator[Process]:
        """Describe the processes there are, the arbiter first; a service that has none, without a pid."""
        found = [(service, self.status(service), self.pids(service)) for service in self.services()]
        restarts, down, draining, server = self.restarts(), *self._beside()
        arbiters = {parent for _, _, pids in found for pid in pids if (parent := _parent(pid)) is not None}
        own = [(ARBITER, "active", sorted(arbiters)), (FORK_SERVER, "active", [server] if server else [])]
        for service, status, pids in [*own, *found]:
            yield from filter(None, (describe(service, status, pid, restarts.get(pid)) for pid in pids))
            if not pids and service not in (ARBITER, FORK_SERVER):
                yield Process(service, (), "down" if service in down else status, None, 0.0, 0, 0.0)
        for pid in draining:  # since an upgrade, for the clients that they have
            yield from filter(None, [describe("apiserver", "draining", pid, None)])

    def scale(self, service: str, count: int) -> int:
        """Have ``count`` processes of a service; returns how many there were."""
        before = int(self._call("numprocesses", name=service)["numprocesses"])
        if count > before:
            self._call("incr", name=service, nb=count - before, waiting=True)
        elif count < before and service in POOLS:
            self._call("retire", name=service, count=before - count)
        elif count < before:
            self._call("decr", name=service, nb=before - count, waiting=True)
        return before

    def replace(self, service: str, ready: Callable[[], set[int]]) -> None:
        """Replace the processes of a pool one by one; none is let go before another is among those that are ready."""
        for pid in self._present(service):
            before = ready()
            self._call("incr", name=service, nb=1, waiting=True)
            deadline = time.monotonic() + RESTART_TIMEOUT
            while not ready() - before:
                if time.monotonic() > deadline:
                    raise StackError(f"a further process of {service} was not ready within {RESTART_TIMEOUT:.0f} s")
                time.sleep(0.05)
            self._call("retire", name=service, pids=[pid])

    def restart(self, service: str) -> None:
        """End a service's processes one by one, each when the one before has been replaced."""
        for pid in self._present(service):
            before = set(self.pids(service))
            self._call("kill", name=service, pid=pid, graceful_timeout=RESTART_TIMEOUT)
            limit = RESTART_TIMEOUT + START_TIMEOUT  # one that hangs is ended by force after the first
            deadline = time.monotonic() + limit
            while not set(self.pids(service)) - before:
                if time.monotonic() > deadline:
                    raise StackError(f"{service} was not replaced within {limit:.0f} s")
                time.sleep(0.05)

    def condition(self) -> dict[str, Any]:
        """Return how the arbiter is; see `services.ctl.watcher.Condition`."""
        answer = self._call("condition")
        return {**answer["condition"], "down": answer["down"]}

    def upgrade(self, on_progress: Callable[[str], object] = lambda phase: None) -> None:
        """Have the stack execute itself anew from what is on disk, part after part; returns when it has."""
        before = self.condition()
        self._call("upgrade")
        deadline, phase = time.monotonic() + UPGRADE_TIMEOUT, ""
        while True:
            time.sleep(POLL_INTERVAL)
            now = self._condition_if_any()
            if now is not None and now["phase"] != phase:
                phase = now["phase"]
                on_progress(phase)
            if now is not None and phase == "ready":
                if now["generation"] > before["generation"]:
                    return
                raise StackError(f"no upgrade, the stack runs on as it is: {now['trouble']}")
            if time.monotonic() > deadline:
                raise StackError(
                    f"the upgrade is not done within {UPGRADE_TIMEOUT:.0f} s; the stack is {phase or 'silent'}"
                )

    def _condition_if_any(self) -> dict[str, Any] | None:
        """An arbiter that executes itself anew answers nothing for a moment, and what was asked is lost."""
        client = CircusClient(endpoint=self._endpoint, timeout=1.0)
        try:
            answer = client.send_message("condition")
            return dict(answer["condition"]) if answer.get("status") == "ok" else None
        except CallError:
            return None
        finally:
            client.stop()

    def down(self) -> None:
        """Stop the stack, and wait until its lock is free."""
        self._call("quit")
        deadline = time.monotonic() + STOP_TIMEOUT
        while (descriptor := take_lock(self._run / RUN_LOCK)) is None:
            if time.monotonic() > deadline:
                raise StackError(f"the stack has not stopped within {STOP_TIMEOUT:.0f} s")
            time.sleep(0.05)
        os.close(descriptor)


def _stat(pid: int) -> list[str]:
    """Return the fields of proc(5) /proc/PID/stat from the third on (state, ppid, …). Errors: OSError."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _parent(pid: int) -> int | None:
    try:
        return int(_stat(pid)[1])
    except OSError:
        return None


def _forks(pid: int) -> list[int]:
    """Return a process, and the children that it has forked and that run the same program as itself."""
    children = _read(f"{pid}/task/{pid}/children").split()
    command = _read(f"{pid}/cmdline")
    return [pid, *(int(child) for child in children if command and _read(f"{int(child)}/cmdline") == command)]


def _read(path: str) -> bytes:
    """Return a file of /proc; nothing if the process has ended, or the kernel does not have it."""
    try:
        return Path("/proc", path).read_bytes()
    except OSError:
        return b""


def describe(service: str, status: str, pid: int, restarts: int | None) -> Process | None:
    """Describe a process from /proc; None if it has ended."""
    pids = tuple(_forks(pid)) if service != ARBITER else (pid,)
    try:
        stats = [_stat(each) for each in pids]
    except OSError:
        return None
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    memory = sum(int(fields[21]) for fields in stats) * page
    cpu = sum(int(fields[11]) + int(fields[12]) for fields in stats) / tick
    return Process(service, pids, status, restarts, int(stats[0][19]) / tick, memory, cpu)
