"""What the operator says to a running stack: ps, scale, restart, down. It speaks circus's protocol to the arbiter."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from circus.client import CircusClient
from circus.exc import CallError

from services.ctl.launcher import control_endpoint
from services.ctl.up import take_lock

__all__ = ["Process", "Stack", "StackError"]

RESTART_TIMEOUT = 30.0  # seconds
STOP_TIMEOUT = 40.0


class StackError(Exception):
    """The arbiter does not answer, or refuses."""


@dataclass(frozen=True)
class Process:
    service: str
    pid: int
    started: float  # seconds since boot
    memory: int  # resident bytes
    cpu: float  # seconds of processor time


class Stack:
    def __init__(self, run: Path) -> None:
        self._client = CircusClient(endpoint=control_endpoint(run), timeout=10.0)

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

    def processes(self) -> Iterator[Process]:
        for service in self.services():
            for pid in self.pids(service):
                try:
                    yield _describe(service, pid)
                except OSError:
                    continue  # it ended as we looked

    def scale(self, service: str, count: int) -> int:
        """Have ``count`` processes of a service; returns how many there were."""
        before = int(self._call("numprocesses", name=service)["numprocesses"])
        if count > before:
            self._call("incr", name=service, nb=count - before, waiting=True)
        elif count < before:
            self._call("decr", name=service, nb=before - count, waiting=True)
        return before

    def restart(self, service: str) -> None:
        """End a service's processes one by one, each when the one before has been replaced."""
        for pid in self.pids(service):
            before = set(self.pids(service))
            self._call("kill", name=service, pid=pid, graceful_timeout=RESTART_TIMEOUT)
            deadline = time.monotonic() + RESTART_TIMEOUT
            while not set(self.pids(service)) - before:
                if time.monotonic() > deadline:
                    raise StackError(f"{service} was not replaced within {RESTART_TIMEOUT:.0f} s")
                time.sleep(0.05)

    def down(self, root: Path) -> None:
        """Stop the stack, and wait until its lock is free."""
        self._call("quit")
        deadline = time.monotonic() + STOP_TIMEOUT
        while (descriptor := take_lock(root)) is None:
            if time.monotonic() > deadline:
                raise StackError(f"the stack has not stopped within {STOP_TIMEOUT:.0f} s")
            time.sleep(0.05)
        os.close(descriptor)


def _describe(service: str, pid: int) -> Process:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    tick = os.sysconf("SC_CLK_TCK")
    memory = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    cpu = (int(fields[11]) + int(fields[12])) / tick
    return Process(service, pid, int(fields[19]) / tick, memory, cpu)
