"""Health checks: their state, as the API shows it, and how the execdriver tells the engine of it."""

from __future__ import annotations

from typing import ClassVar

from msgspec import field

from shared.protocol.config import ContainerConfig
from shared.protocol.job import Data, Job, Record

__all__ = ["ContainerHealth", "Health", "HealthProbe", "HealthReport", "HealthResult", "health_command"]

DEFAULT_SHELL = ["/bin/sh", "-c"]


class HealthResult(Record):
    """API 1.51 HealthcheckResult; times in RFC 3339, ``exit_code`` -1 for a probe that could not be run to its end."""

    start: str
    end: str
    exit_code: int
    output: str


class Health(Record):
    """API 1.51 Health. ``status``: starting, healthy or unhealthy; ``log``: the last results, oldest first."""

    status: str = "starting"
    failing_streak: int = 0
    log: list[HealthResult] = field(default_factory=list)


class HealthProbe(Data, frozen=True):
    """A probe that began, or ended with ``exit_code``; ``exec``: 64 hexadecimal digits, as an exec's id."""

    exec: str
    exit_code: int | None = None


class HealthReport(Data, frozen=True):
    """``probes``: the beginnings and ends since the last report, in their order."""

    container: str
    generation: int
    health: Health
    probes: list[HealthProbe] = field(default_factory=list)


class ContainerHealth(Job[None], frozen=True, tag="container_health"):
    """execdriver → engine: the health of containers, as it is now. Sent at once where a status has changed, else in
    batches, at most one a second; again until acknowledged, by what is true then. Each beginning and end of a probe is
    told once, and becomes the events of an exec."""

    REPEATABLE: ClassVar[bool] = True
    reports: list[HealthReport]


def health_command(config: ContainerConfig) -> list[str]:
    """Return the command of a container's health check; empty if it has none."""
    test = (config.healthcheck.test if config.healthcheck else None) or ["NONE"]
    if test[0] == "CMD":
        return test[1:]
    if test[0] == "CMD-SHELL" and len(test) > 1:
        return [*(config.shell or DEFAULT_SHELL), test[1]]
    return []
