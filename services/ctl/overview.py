"""Overview: what arbiter and engine say of the stack at one moment; each is asked alone, and may be away."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from services.ctl import units
from services.ctl.joblist import running_jobs
from services.ctl.stack import ARBITER, FORK_SERVER, Process, Stack, StackError, describe
from shared.bus.bus import Bus
from shared.protocol import ContainerSummary, DockyardError, ListContainers, ListServices, PastJob, ServiceStatus

__all__ = ["PATIENCE", "PROCESS_HEADER", "Overview", "look", "process_records", "process_rows"]

ENGINE = "engine"
SILENT = 1.5  # seconds; a process that works is heard every second
PROCESS_HEADER = ("SERVICE", "PID", "STATE", "HEALTH", "UPTIME", "RESTARTS", "JOBS", "MEMORY", "CPU")
NONE, UNKNOWN = "-", "?"
PATIENCE = 3.0  # seconds


@dataclass(frozen=True)
class Overview:
    """``*_trouble``: why that one does not answer; empty if it does. What it alone knows is empty then."""

    processes: list[Process]
    arbiter_trouble: str = ""
    engine_trouble: str = ""
    services: list[ServiceStatus] = field(default_factory=list)
    jobs: list[PastJob] = field(default_factory=list)  # under way, newest first
    containers: list[ContainerSummary] = field(default_factory=list)  # running

    def health(self, process: Process) -> str:
        """Say whether a process does its work, as the engine sees it."""
        if process.service in (ARBITER, FORK_SERVER):  # it lives as long as the arbiter asks it
            return UNKNOWN if self.arbiter_trouble else "ready"
        if self.engine_trouble:
            return "no answer" if process.service == ENGINE else UNKNOWN
        found = [service for service in self.services if service.pid in process.pids]
        if not found:
            return "not registered" if process.pids else NONE
        if found[0].ready:
            return "ready"
        return f"silent {found[0].silent:.0f}s" if found[0].silent > SILENT else "starting"

    def busy(self, process: Process) -> int | None:
        """Return how many jobs are under way in a process, or were asked for by it; None: not known."""
        if self.engine_trouble or process.service in (ARBITER, FORK_SERVER):
            return None
        callers = {f"{process.service}[{pid}]" for pid in process.pids}
        inside = sum(service.jobs for service in self.services if service.pid in process.pids)
        return inside + sum(job.caller in callers and job.service != process.service for job in self.jobs)


def look(stack: Stack, bus: Bus, *, reader: Bus | None = None, timeout: float = PATIENCE) -> Overview:
    """Ask everybody; blocks for the arbiter's timeout and four times ``timeout`` seconds at most.

    ``reader``, given if the containers are wanted, is asked for them if the engine does not answer.
    """
    processes: list[Process] = []
    services: list[ServiceStatus] = []
    jobs: list[PastJob] = []
    running: list[ContainerSummary] = []
    arbiter_trouble = engine_trouble = ""
    try:
        processes = list(stack.processes())
    except StackError as error:
        arbiter_trouble = str(error)
    try:
        services = bus.call(ListServices(), timeout=timeout)
        jobs = running_jobs(bus, timeout=timeout)
    except DockyardError as error:
        engine_trouble = f"the engine does not answer ({error.message})"
    with contextlib.suppress(DockyardError):
        if reader is not None:
            running = (reader if engine_trouble else bus).call(ListContainers(), timeout=timeout)
    if arbiter_trouble:
        processes = [found for s in services if (found := describe(s.service, UNKNOWN, s.pid, None)) is not None]
    return Overview(processes, arbiter_trouble, engine_trouble, services, jobs, running)


def process_rows(seen: Overview, boot_time: float, cpu: Callable[[Process], str]) -> list[tuple[str, ...]]:
    """Lay out the processes under `PROCESS_HEADER`; ``boot_time``: now, in seconds since boot."""
    return [_row(seen, process, boot_time, cpu) for process in seen.processes]


def process_records(seen: Overview, boot_time: float) -> list[dict[str, Any]]:
    """Return the processes as JSON values: memory in bytes, times in seconds, null for what is not known."""
    return [
        {
            "service": process.service,
            "pid": process.pid or None,
            "state": process.status,
            "health": seen.health(process),
            "uptime": boot_time - process.started if process.pids else None,
            "restarts": process.restarts,
            "jobs": seen.busy(process),
            "memory": process.memory,
            "cpu": process.cpu,
        }
        for process in seen.processes
    ]


def _row(seen: Overview, process: Process, boot_time: float, cpu: Callable[[Process], str]) -> tuple[str, ...]:
    if not process.pids:
        return (process.service, NONE, process.status, *[NONE] * 6)
    restarts, busy = process.restarts, seen.busy(process)
    return (
        process.service,
        str(process.pid),
        process.status,
        seen.health(process),
        units.duration(boot_time - process.started),
        NONE if restarts is None else str(restarts),
        NONE if busy is None else str(busy),
        units.size(process.memory),
        cpu(process),
    )
