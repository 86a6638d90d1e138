"""What governs a container that runs: pause, unpause, update, top, stats."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from services.engine.lifecycle import pause as pausing
from services.engine.lifecycle.pause import check_running, not_running
from services.engine.update import update
from shared.bus.handlers import Handlers
from shared.protocol import (
    ContainerStats,
    ContainerUpdated,
    NotFound,
    PauseContainer,
    Processes,
    RuntimeStats,
    RuntimeTop,
    SampleContainer,
    TopContainer,
    UnpauseContainer,
    UpdateContainer,
)

if TYPE_CHECKING:
    from services.engine.engine import Engine

jobs: Handlers[Engine] = Handlers()


@jobs.handles(PauseContainer)
async def pause(engine: Engine, job: PauseContainer) -> None:
    await pausing.pause(engine, engine.containers.find(job.container))


@jobs.handles(UnpauseContainer)
async def unpause(engine: Engine, job: UnpauseContainer) -> None:
    await pausing.unpause(engine, engine.containers.find(job.container))


@jobs.handles(UpdateContainer)
async def update_container(engine: Engine, job: UpdateContainer) -> ContainerUpdated:
    return await update(engine, engine.containers.find(job.container), job)


@jobs.handles(TopContainer)
async def top(engine: Engine, job: TopContainer) -> Processes:
    container = engine.containers.find(job.container)
    check_running(container)
    try:
        found = await engine.call(RuntimeTop(container=container.id, ps_args=job.ps_args))
    except NotFound:
        raise not_running(container) from None
    engine.tell(container, "top")
    return found


@jobs.handles(SampleContainer)
async def stats(engine: Engine, job: SampleContainer) -> ContainerStats:
    record = engine.containers.find(job.container).record
    found = ContainerStats()
    if record.running:
        has_network = record.host_config.network_mode not in ("host", "none") and not record.config.network_disabled
        with suppress(NotFound):  # it has just ended
            found = await engine.call(RuntimeStats(container=record.id, networks=has_network))
    return msgspec.structs.replace(found, id=record.id, name=f"/{record.name}")
