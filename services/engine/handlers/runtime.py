"""What the execdriver reports."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from services.engine.health import note_health, note_probes
from services.engine.lifecycle.exits import note_exit
from shared.bus.handlers import Handlers
from shared.protocol import ContainerExited, ContainerHealth, RuntimeDelete

if TYPE_CHECKING:
    from services.engine.engine import Engine

jobs: Handlers[Engine] = Handlers()
log = logging.getLogger("dockyard.engine")


@jobs.handles(ContainerHealth)
def health(engine: Engine, job: ContainerHealth) -> None:
    with engine.store.transaction():
        for report in job.reports:
            container = engine.containers.by_id(report.container)
            if container is not None:
                note_probes(engine, container, report)
                note_health(engine, container, report.generation, report.health)
        if any(report.probes for report in job.reports):
            engine.done(ContainerHealth, None)


@jobs.handles(ContainerExited)
async def exited(engine: Engine, job: ContainerExited) -> None:
    """Note an exit once; a report of one that is known already, or of nobody's container, is only cleaned up."""
    container = engine.containers.by_id(job.container)
    if job.container in engine.quarantine:
        log.warning("exit of a container in quarantine id=%s code=%d", job.container, job.exit_code)
        return
    if container is None:
        log.warning("exit of an unknown container id=%s", job.container)
        engine.router.spawn(engine.call(RuntimeDelete(container=job.container)))
        return
    async with container.lock:
        if container.record.running and container.record.generation == job.generation:
            note_exit(engine, container, job.exit_code, job.exited_at, job.oom_killed, job.error)
