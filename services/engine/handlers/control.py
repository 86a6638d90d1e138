"""What governs a container that runs: pause, unpause, update."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.engine.lifecycle import pause as pausing
from services.engine.update import update
from shared.bus.handlers import Handlers
from shared.protocol import ContainerUpdated, PauseContainer, UnpauseContainer, UpdateContainer

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
