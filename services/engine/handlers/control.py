"""What governs a container that runs: pause, unpause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.engine.lifecycle import pause as pausing
from shared.bus.handlers import Handlers
from shared.protocol import PauseContainer, UnpauseContainer

if TYPE_CHECKING:
    from services.engine.engine import Engine

jobs: Handlers[Engine] = Handlers()


@jobs.handles(PauseContainer)
async def pause(engine: Engine, job: PauseContainer) -> None:
    await pausing.pause(engine, engine.containers.find(job.container))


@jobs.handles(UnpauseContainer)
async def unpause(engine: Engine, job: UnpauseContainer) -> None:
    await pausing.unpause(engine, engine.containers.find(job.container))
