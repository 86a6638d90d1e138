"""Registries: what the engine's records say of images that are to be pushed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.bus.handlers import Handlers
from shared.protocol import ListPushable, NotFound, PushableImage
from shared.protocol.reference import familiar

if TYPE_CHECKING:
    from services.engine.engine import Engine

jobs: Handlers[Engine] = Handlers()

MAX_MOUNTS = 3  # repositories that a push asks about one layer


@jobs.handles(ListPushable)
def list_pushable(engine: Engine, job: ListPushable) -> list[PushableImage]:
    name = f"{job.domain}/{job.path}"
    images = engine.images.of_repository(name)
    if not images:
        raise NotFound(f"An image does not exist locally with the tag: {familiar(name)}")
    if job.tag and job.tag not in images:
        raise NotFound(f"tag does not exist: {familiar(f'{name}:{job.tag}')}")
    mounts = _mounts(engine, job)
    return [
        PushableImage(
            image=image,
            tag=tag,
            mounts={layer.digest: mounts[layer.digest] for layer in image.layers if layer.digest in mounts},
        )
        for tag, image in images.items()
        if job.tag in ("", tag)
    ]


def _mounts(engine: Engine, job: ListPushable) -> dict[str, list[str]]:
    """Return where else at the registry layers are: an image has a digest in each repository that it came from."""
    found: dict[str, list[str]] = {}
    for image in engine.images:
        names = {reference.partition("@")[0] for reference in engine.images.digests(image.id)}
        paths = sorted(name.removeprefix(f"{job.domain}/") for name in names if name.startswith(f"{job.domain}/"))
        for layer in image.layers:
            known = found.setdefault(layer.digest, [])
            known += [path for path in paths if path != job.path and path not in known][: MAX_MOUNTS - len(known)]
    return {digest: paths for digest, paths in found.items() if paths}
