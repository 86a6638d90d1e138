"""Check: what is known of a container's health, and when it is probed next. Thresholds as moby's (daemon/health.go)."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Any

import msgspec

from services.execdriver.bundle import Bundle
from services.execdriver.cgroups import Cgroup
from services.execdriver.crun import EXEC_INIT_PHRASE, EXEC_PHRASE
from services.execdriver.prober import MAX_OUTPUT
from shared.protocol import (
    Health,
    HealthConfig,
    HealthProbe,
    HealthReport,
    HealthResult,
)

__all__ = ["KEPT_PROBES", "Check", "Schedule"]

KEPT_RESULTS = 5
KEPT_PROBES = 20  # beginnings and ends of a container's probes that wait for an engine, at most
TIMED_OUT = 128 + 9  # exit code of a probe that was killed because it took too long
DEFAULT_INTERVAL, DEFAULT_TIMEOUT, DEFAULT_START_INTERVAL, DEFAULT_RETRIES = 30.0, 30.0, 5.0, 3  # seconds but the last


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
