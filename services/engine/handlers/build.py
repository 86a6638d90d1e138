"""Build: an image from a Dockerfile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.bus.handlers import Handlers
from shared.protocol import BuildImage, NotImplementedByUs

if TYPE_CHECKING:
    from services.engine.engine import Engine

jobs: Handlers[Engine] = Handlers()


@jobs.handles(BuildImage)
async def build(engine: Engine, job: BuildImage) -> None:
    raise NotImplementedByUs("build is not implemented: make the image elsewhere and use 'docker load'")
