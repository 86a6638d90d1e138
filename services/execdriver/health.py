"""Health checks: when each container is probed, what the probes found, and telling the engine.

The probes are run by a process of their own (`services.execdriver.prober`), which is started when there is something
to probe. A bundle holds `health.json` (what to run and when) and `health-state.json` (what was found), so checks go on
after our death, and while the engine is away.
"""

from __future__ import annotations

import logging
import os
import secrets
import select
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from services.execdriver import prober
from services.execdriver.bundle import Bundle, Process
from services.execdriver.cgroups import Cgroup
from services.execdriver.crun import EXEC_INIT_PHRASE, EXEC_PHRASE
from services.execdriver.probe import build_probe
from services.execdriver.prober import MAX_OUTPUT
from services.execdriver.sealed import sealed_copy
from shared.bus.bus import Bus
from shared.protocol import (
    ContainerHealth,
    DockyardError,
    Health,
    HealthConfig,
    HealthProbe,
    HealthReport,
    HealthResult,
    RuntimeStart,
    Unavailable,
    health_command,
)

__all__ = ["Checks"]

KEPT_RESULTS = 5
KEPT_PROBES = 20  # beginnings and ends of a container's probes that wait for an engine, at most
TIMED_OUT = 128 + 9  # exit code of a probe that was killed because it took too long
REPORT_INTERVAL = 1.0  # seconds
RESPAWN_DELAY = 0.5  # seconds
DEFAULT_INTERVAL, DEFAULT_TIMEOUT, DEFAULT_START_INTERVAL, DEFAULT_RETRIES = 30.0, 30.0, 5.0, 3  # seconds but the last
log = logging.getLogger("dockyard.execdriver")


class Schedule(msgspec.Struct, frozen=True):
    """Times in seconds, ``started`` since the epoch; ``probe`` is a `prober.Probe`."""

    interval: float
    start_period: float
    start_interval: float
    retries: int
    started: float
    probe: dict[str, Any]

    @classmethod
    def of(cls, config: HealthConfig, probe: dict[str, Any]) -> Schedule:
        return cls(
            interval=config.interval / 1e9 or DEFAULT_INTERVAL,
            start_period=config.start_period / 1e9,
            start_interval=config.start_interval / 1e9 or DEFAULT_START_INTERVAL,
            retries=config.retries or DEFAULT_RETRIES,
            started=time.time(),
            probe={**probe, "timeout": config.timeout / 1e9 or DEFAULT_TIMEOUT},
        )


class Check:
    """One container's health check. ``pidfd`` is of its init; ``due`` on CLOCK_MONOTONIC."""

    def __init__(self, bundle: Bundle, schedule: Schedule, health: Health, pidfd: int) -> None:
        start = bundle.start()
        assert start is not None
        self.bundle, self.schedule, self.health, self.pidfd = bundle, schedule, health, pidfd
        self.generation, self.cgroup = start.generation, Cgroup(start.cgroup)
        self.under_way = False
        self.exec, self.probes = "", list[HealthProbe]()  # the present probe; beginnings and ends to be told
        self.due = time.monotonic() + self.pause(time.time())

    def pause(self, now: float) -> float:
        """Return the seconds between two probes: shorter while the container is starting."""
        starting = self.health.status != "healthy" and now - self.schedule.started < self.schedule.start_period
        return self.schedule.start_interval if starting else self.schedule.interval

    def begun(self) -> None:
        self.under_way, self.exec = True, secrets.token_hex(32)
        self.tell(HealthProbe(exec=self.exec))

    def tell(self, *probes: HealthProbe) -> None:
        """Have the engine told of these; of what it does not take the oldest are left out."""
        self.probes = [*self.probes, *probes][-KEPT_PROBES:]

    def note(self, answer: dict[str, Any]) -> bool:
        """Take a result; True if it changed the status (moby, daemon/health.go handleProbeResult)."""
        health, before = self.health, self.health.status
        code = TIMED_OUT if answer["error"] == "timeout" else answer["exit_code"]
        if code >= 0:  # else it did not even start
            self.tell(HealthProbe(exec=self.exec, exit_code=code))
        if answer["exit_code"] == 0:
            health.failing_streak, health.status = 0, "healthy"
        elif before != "starting" or answer["start"] - self.schedule.started >= self.schedule.start_period:
            health.failing_streak += 1
            if health.failing_streak >= self.schedule.retries:
                health.status = "unhealthy"
        result = HealthResult(
            start=_rfc3339(answer["start"]),
            end=_rfc3339(answer["end"]),
            exit_code=answer["exit_code"],
            output=self._output(answer),
        )
        health.log = [*health.log, result][-KEPT_RESULTS:]
        self.bundle.write("health-state.json", msgspec.json.encode(health))
        return health.status != before

    def report(self) -> HealthReport:
        probes, self.probes = self.probes, []
        return HealthReport(
            container=self.bundle.container, generation=self.generation, health=self.health, probes=probes
        )

    def _output(self, answer: dict[str, Any]) -> str:
        output = str(answer["output"])
        if len(output.encode()) > MAX_OUTPUT:
            output = output.encode()[:MAX_OUTPUT].decode(errors="ignore") + "..."
        if answer["error"] == "timeout":
            said = f": {output}" if output else ""
            return f"Health check exceeded timeout ({self.schedule.probe['timeout']:g}s){said}"
        if answer["error"]:
            command = self.schedule.probe["args"][0]
            why = "executable file not found in $PATH" if answer["error"] == "not found" else answer["error"]
            return f'{EXEC_PHRASE}{EXEC_INIT_PHRASE}exec: "{command}": {why}: unknown'
        return output


def _rfc3339(moment: float) -> str:
    seconds, nanoseconds = divmod(int(moment * 1e9), 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


class Checks:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._lock = threading.Lock()
        self._checks: dict[str, Check] = {}
        self._dirty: set[str] = set()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._urgent = threading.Event()
        self._prober: tuple[subprocess.Popen[bytes], socket.socket] | None = None
        threading.Thread(target=self._run, name="health", daemon=True).start()
        threading.Thread(target=self._report, name="health-report", daemon=True).start()

    def begin(self, bundle: Bundle, job: RuntimeStart, init: Process) -> None:
        """Begin to check a container that has just been started, if it has a health check."""
        args = health_command(job.config)
        if not args or job.config.healthcheck is None:
            return
        schedule = Schedule.of(job.config.healthcheck, build_probe(bundle, args))
        bundle.write("health.json", msgspec.json.encode(schedule))
        self._add(Check(bundle, schedule, Health(), os.dup(init.pidfd)))

    def resume(self, bundle: Bundle, init: Process) -> None:
        """Go on with the check of a container that an earlier process of this driver started."""
        try:
            schedule = msgspec.json.decode((bundle.directory / "health.json").read_bytes(), type=Schedule)
        except FileNotFoundError:
            return
        try:
            health = msgspec.json.decode((bundle.directory / "health-state.json").read_bytes(), type=Health)
        except FileNotFoundError:
            health = Health()
        self._add(Check(bundle, schedule, health, os.dup(init.pidfd)))

    def _add(self, check: Check) -> None:
        with self._lock:
            self._checks[check.bundle.container] = check
        os.eventfd_write(self._wake, 1)

    def end(self, container: str) -> None:
        with self._lock:
            check = self._checks.pop(container, None)
            if check is not None:
                os.close(check.pidfd)

    def health(self, container: str) -> Health | None:
        check = self._checks.get(container)
        return check.health if check is not None else None

    # -- the schedule: one thread

    def _run(self) -> None:
        while True:
            try:
                self._step()
            except Exception:
                log.exception("health checks failed")
                time.sleep(RESPAWN_DELAY)

    def _step(self) -> None:
        with self._lock:
            checks = [check for check in self._checks.values() if not check.under_way]
        now = time.monotonic()
        for check in checks:
            if check.due <= now:
                self._ask(check)
        next_due = min((check.due for check in checks if not check.under_way), default=None)
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        if self._prober is not None:
            poller.register(self._prober[1], select.POLLIN)
        ready = poller.poll(None if next_due is None else max(0.0, next_due - time.monotonic()) * 1000 + 1)
        for descriptor, _ in ready:
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
            else:
                self._take()

    def _ask(self, check: Check) -> None:
        """Have a probe run; a container that is paused is not probed."""
        if check.cgroup.frozen():
            check.due = time.monotonic() + check.pause(time.time())
            return
        connection = self._connection()
        name = f"{check.bundle.container} {check.generation}"
        with self._lock:
            if self._checks.get(check.bundle.container) is not check:
                return
            request = msgspec.json.encode({**check.schedule.probe, "id": name})
            try:
                socket.send_fds(connection, [request], [check.pidfd])
                check.begun()
                self._dirty.add(check.bundle.container)
            except OSError as error:
                log.warning("prober lost error=%s", error)
                check.due = time.monotonic() + RESPAWN_DELAY

    def _connection(self) -> socket.socket:
        if self._prober is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs, sealed_copy(Path(sys.executable)) as python:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", prober.__file__],
                    executable=f"/proc/self/fd/{python}",
                    pass_fds=[python],
                    stdin=theirs.fileno(),
                    cwd="/",
                )
            self._prober = process, ours
        return self._prober[1]

    def _take(self) -> None:
        assert self._prober is not None
        process, connection = self._prober
        try:
            data = connection.recv(prober.PACKET)
        except ConnectionResetError:
            data = b""
        if not data:
            self._prober_ended(process, connection)
            return
        answer = msgspec.json.decode(data)
        container, _, generation = answer["id"].partition(" ")
        with self._lock:
            check = self._checks.get(container)
            if check is None or str(check.generation) != generation:
                return
            check.under_way = False
            changed = check.note(answer)
            check.due = time.monotonic() + check.pause(time.time())
            self._dirty.add(container)
        if changed:
            self._urgent.set()

    def _prober_ended(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        """Its probes have ended with it; they are made again."""
        connection.close()
        log.warning("prober ended status=%s", process.wait())
        self._prober = None
        with self._lock:
            for check in self._checks.values():
                if check.under_way:
                    check.under_way, check.due = False, time.monotonic() + RESPAWN_DELAY

    # -- telling the engine: another thread

    def _report(self) -> None:
        while True:
            self._urgent.wait(REPORT_INTERVAL)
            self._urgent.clear()
            with self._lock:
                told, self._dirty = self._dirty, set()
                checks = [self._checks[container] for container in told if container in self._checks]
                reports = [check.report() for check in checks]
                job = msgspec.convert(msgspec.to_builtins(ContainerHealth(reports=reports)), ContainerHealth)
            if reports and not self._tell(job):
                with self._lock:
                    self._dirty |= told
                    for check, report in zip(checks, reports, strict=True):
                        later, check.probes = check.probes, report.probes
                        check.tell(*later)
                time.sleep(REPORT_INTERVAL)

    def _tell(self, job: ContainerHealth) -> bool:
        try:
            self._bus.call(job)
        except Unavailable as error:
            log.info("health not acknowledged yet error=%s", error)
            return False
        except DockyardError as error:
            log.error("health report refused error=%s", error)
        return True
