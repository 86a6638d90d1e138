"""Health checks: when each container is probed, what the probes found, and telling the engine.

The probes are run by a process of their own (`services.execdriver.prober`), which is started when there is something
to probe. A bundle holds `health.json` (what to run and when) and `health-state.json` (what was found), so checks go on
after our death, and while the engine is away.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec

from services.execdriver import prober
from services.execdriver.bundle import Bundle, Process
from services.execdriver.check import Check, Schedule
from services.execdriver.probe import build_probe
from services.execdriver.sealed import sealed_copy
from shared.bus.bus import Bus
from shared.protocol import (
    ContainerHealth,
    DockyardError,
    Health,
    RuntimeStart,
    Unavailable,
    health_command,
)

__all__ = ["Checks"]

REPORT_INTERVAL = 1.0  # seconds
RESPAWN_DELAY = 0.5  # seconds
log = logging.getLogger("dockyard.execdriver")


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
