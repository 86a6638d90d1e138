"""Health in the engine: what a health check may be, and what of its state is on record."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from services.engine.container import Container
from shared.protocol import ContainerConfig, Health, HealthConfig, HealthReport, InvalidArgument, health_command

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["begin_health", "end_health", "health_text", "merge_healthcheck", "note_health", "note_probes"]

MINIMUM = 1_000_000  # nanoseconds
log = logging.getLogger("dockyard.engine")


def merge_healthcheck(given: HealthConfig | None, image: HealthConfig | None) -> HealthConfig | None:
    """Lay what the request asks over the image's; 0 and an empty test inherit. Errors: InvalidArgument."""
    for name in ("interval", "timeout", "start_period", "start_interval"):
        value = getattr(given, name) if given else 0
        if value and value < MINIMUM:
            raise InvalidArgument(f"{name.title().replace('_', '')} in Healthcheck cannot be less than 1ms")
    if given is not None and given.retries < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative")
    if given is None or image is None:
        return given or image
    values = {name: getattr(given, name) or getattr(image, name) for name in given.__struct_fields__}
    return HealthConfig(**values)


def begin_health(config: ContainerConfig) -> Health | None:
    """Return the health that a container starts with; None without a health check."""
    return Health() if health_command(config) else None


def end_health(container: Container) -> None:
    """A container that has ended counts as unhealthy, if it has a health check (as dockerd has it)."""
    health = container.record.health
    if health is not None:
        container.record.health = msgspec.structs.replace(health, status="unhealthy")


def note_health(engine: Engine, container: Container, generation: int, health: Health) -> None:
    """Take over what the execdriver found; an event, and a durable record, only where the status has changed."""
    record = container.record
    if record.health is None or not record.running or record.generation != generation:
        return
    changed, record.health = record.health.status != health.status, health
    if changed:
        log.info("health changed container=%s status=%s", record.id, health.status)
        engine.save(container, f"health_status: {health.status}")


def note_probes(engine: Engine, container: Container, report: HealthReport) -> None:
    """Tell of the probes that began and ended as of execs, which they are to dockerd (moby, daemon/health.go)."""
    if not report.probes or container.record.generation != report.generation:
        return
    command = " ".join(health_command(container.record.config))
    for probe in report.probes:
        if probe.exit_code is None:
            engine.tell(container, f"exec_create: {command}", execID=probe.exec)
            engine.tell(container, f"exec_start: {command}", execID=probe.exec)
        else:
            engine.tell(container, "exec_die", execID=probe.exec, exitCode=str(probe.exit_code))


def health_text(health: Health | None) -> str:
    """Return what `docker ps` says of it behind "Up 3 seconds"."""
    if health is None:
        return ""
    return " (health: starting)" if health.status == "starting" else f" ({health.status})"
