"""Build: what the builder asks of the engine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from services.engine import builds
from services.engine.buildcache import find_cached
from services.engine.views import rfc3339
from shared.bus.context import caller_id, job_id
from shared.bus.handlers import Handlers
from shared.protocol import (
    CommitLayer,
    CommitStep,
    ConfigureImage,
    EndBuild,
    FindCached,
    Image,
    NewImage,
    decode_body,
    encode_body,
)
from shared.runtime.platforms import host_platform, parse_platform

if TYPE_CHECKING:
    from services.engine.engine import Engine

jobs: Handlers[Engine] = Handlers()


@jobs.handles(FindCached)
async def cached(engine: Engine, job: FindCached) -> str:
    """Look for an image that this step made, or make it of one whose history has the step."""
    parent = engine.images.require(job.parent) if job.parent else None
    platform = parse_platform(job.platform) if job.platform else host_platform()
    found, source = find_cached(engine.images, parent, job.created_by, job.config, job.cachefrom, platform)
    if found is not None:
        engine.images.hold(caller_id(), found.id)
        return found.id
    if source is None:
        return ""
    entry = source.history[len(parent.history) if parent else 0]
    image = _new_image(job, parent, str(entry.get("author", "")))
    order = ConfigureImage(image=image, source=None if entry.get("empty_layer") else source)
    return await _once(engine, await engine.call(order, timeout=None))


@jobs.handles(CommitStep)
async def commit_step(engine: Engine, job: CommitStep) -> str:
    parent = engine.images.require(job.parent) if job.parent else None
    image = _new_image(job, parent, job.author)
    if not job.container:
        return await _once(engine, await engine.call(ConfigureImage(image=image), timeout=None))
    container = engine.containers.find(job.container)
    order = CommitLayer(container=container.id, image=image, mounted=job.mounted)
    return await _once(engine, await engine.call(order, timeout=None))


async def _once(engine: Engine, image_id: str) -> str:
    """Return the image that this job has made; if it was asked twice, the first."""
    return str(decode_body(engine.store.outcome(job_id()) or encode_body(image_id), str))


def _new_image(job: FindCached | CommitStep, parent: Image | None, author: str) -> NewImage:
    platform = parse_platform(job.platform) if job.platform else host_platform()
    return NewImage(
        config=job.config,
        architecture=parent.architecture if parent else platform.architecture,
        os=parent.os if parent else platform.os,
        variant=parent.variant if parent else platform.written_variant,
        author=author,
        created=rfc3339(time.time_ns()),
        created_by=job.created_by,
        parent=parent,
        action="build",
        order=job_id(),
    )


@jobs.handles(EndBuild)
async def end_build(engine: Engine, job: EndBuild) -> None:
    await builds.end(engine, job.build, job.keep)
