"""Containers: create to remove, and all that is asked about them in between."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from typing import TYPE_CHECKING

import msgspec

from services.engine import filters, links, views
from services.engine.create import NAME, create
from services.engine.disk import add_sizes
from services.engine.lifecycle import removal
from services.engine.lifecycle import start as starting
from services.engine.lifecycle import stop as stopping
from services.engine.lifecycle.networks import refresh_names
from services.engine.logdrivers import log_stream
from services.engine.record import Status
from shared.bus.context import asked_again, emit, waiting_for
from shared.bus.handlers import Handlers
from shared.protocol import (
    AttachContainer,
    Attachment,
    Conflict,
    ContainerExit,
    ContainerInspect,
    ContainerLogs,
    ContainerSummary,
    CreateContainer,
    DockyardError,
    InspectContainer,
    InvalidArgument,
    KillContainer,
    ListContainers,
    LogStream,
    NoteDetach,
    NotFound,
    PruneContainers,
    Pruned,
    RemoveContainer,
    RenameContainer,
    ResizeContainer,
    RestartContainer,
    RuntimeAttach,
    RuntimeResize,
    StartContainer,
    StopContainer,
    Ticket,
    Unavailable,
    WaitContainer,
)

if TYPE_CHECKING:
    from services.engine.engine import Engine

jobs: Handlers[Engine] = Handlers()
jobs.handles(CreateContainer)(create)

LATELY = 60.0  # seconds
WAIT_CONDITIONS = ("not-running", "next-exit", "removed")


@jobs.handles(StartContainer)
async def start(engine: Engine, job: StartContainer) -> None:
    try:
        container = engine.containers.find(job.container)
    except NotFound:
        if _went_meanwhile(engine, job.container) and _ran_lately(engine, job.container):
            return  # it ran, ended, and was removed as it had asked
        raise
    await starting.start(engine, container)


@jobs.handles(StopContainer)
async def stop(engine: Engine, job: StopContainer) -> None:
    container = engine.containers.find(job.container)
    container.host_goes_down |= job.shutdown
    await stopping.stop(engine, container, job.timeout, job.signal)


@jobs.handles(RestartContainer)
async def restart(engine: Engine, job: RestartContainer) -> None:
    container = engine.containers.find(job.container)
    try:
        await stopping.restart(engine, container, job.timeout, job.signal)
    except Unavailable:
        raise  # the caller asks again
    except DockyardError as error:
        raise type(error)(f"Cannot restart container {job.container}: {error.message}") from error


@jobs.handles(KillContainer)
async def kill(engine: Engine, job: KillContainer) -> None:
    await stopping.kill(engine, engine.containers.find(job.container), job.signal)


@jobs.handles(RemoveContainer)
async def remove(engine: Engine, job: RemoveContainer) -> None:
    if job.link:
        await links.unlink(engine, job.container)
    elif (condemned := removal.in_quarantine(engine, job.container)) is not None:
        await removal.remove_from_quarantine(engine, condemned, force=job.force)
    elif not _went_meanwhile(engine, job.container):
        container = engine.containers.find(job.container)
        await removal.remove(engine, container, force=job.force, volumes=job.volumes)


def _went_meanwhile(engine: Engine, ref: str) -> bool:
    """Say whether the container of a job that is asked again was removed lately."""
    return asked_again() and engine.events.last(ref, "destroy", within=LATELY) is not None


def _ran_lately(engine: Engine, ref: str) -> bool:
    return engine.events.last(ref, "start", within=LATELY) is not None


@jobs.handles(RenameContainer)
async def rename(engine: Engine, job: RenameContainer) -> None:
    container = engine.containers.find(job.container)
    record, name = container.record, job.name.strip().removeprefix("/")
    if not job.name.strip():
        raise InvalidArgument("Neither old nor new names may be empty")
    if not NAME.fullmatch(name):
        raise InvalidArgument(f"Invalid container name ({job.name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
    if name == record.name:
        raise InvalidArgument("Renaming a container with the same name as its current name")
    engine.containers.reserve(name, record.id)
    old, record.name = record.name, name
    engine.containers.release(old)
    with engine.store.transaction():
        engine.save(container, "rename", oldName=f"/{old}")
        engine.done(RenameContainer, None)
    await refresh_names(engine, container)


@jobs.handles(ResizeContainer)
async def resize(engine: Engine, job: ResizeContainer) -> None:
    container = engine.containers.find(job.container)
    if not container.record.running:
        raise Conflict(f"container {container.id} is not running")
    await engine.call(RuntimeResize(container=container.id, height=job.height, width=job.width))
    engine.tell(container, "resize", height=str(job.height), width=str(job.width))


@jobs.handles(WaitContainer)
async def wait(engine: Engine, job: WaitContainer) -> ContainerExit:
    """Wait; STATUS ``ready`` names the generation waited for, with which a lost wait is taken up again."""
    if job.condition not in WAIT_CONDITIONS:
        raise InvalidArgument(f'invalid condition: "{job.condition}"')
    if job.generation is not None and engine.containers.by_id(job.container) is None:
        return _exit_of_removed(engine, job.container)
    container = engine.containers.find(job.container)
    record = container.record
    generation = job.generation or record.generation + (0 if record.running else 1)
    emit(f"{record.id} {generation}", stream="ready")
    if job.condition == "removed":
        with waiting_for(f"the removal of container {record.name}"):
            code = await container.removal_future()
    elif (job.condition == "not-running" and not record.running and record.status is not Status.RESTARTING) or (
        job.condition == "next-exit" and record.exited_generation >= generation
    ):
        code = record.exit_code
    else:
        with waiting_for(f"the exit of container {record.name}"):
            code = await container.exit_future()
    return ContainerExit(status_code=code)


def _exit_of_removed(engine: Engine, container_id: str) -> ContainerExit:
    death = engine.events.last(container_id, "die", within=math.inf)
    if death is None:
        raise NotFound(f"No such container: {container_id}")
    return ContainerExit(status_code=int(death.actor.attributes["exitCode"]))


@jobs.handles(AttachContainer)
async def attach(engine: Engine, job: AttachContainer) -> Attachment:
    container = engine.containers.find(job.container)
    record = container.record
    if record.paused:
        raise Conflict(f"container {job.container} is paused, unpause the container before attach")
    stream: Ticket | None = None
    if job.stream:
        stream = await engine.call(RuntimeAttach(container=record.id))
    earlier = log_stream(engine.config, record) if job.logs else None
    engine.tell(container, "attach")
    return Attachment(
        container=record.id, tty=record.config.tty, open_stdin=record.config.open_stdin, ticket=stream, logs=earlier
    )


@jobs.handles(NoteDetach)
def detached(engine: Engine, job: NoteDetach) -> None:
    engine.tell(engine.containers.find(job.container), "detach")


@jobs.handles(ContainerLogs)
def logs(engine: Engine, job: ContainerLogs) -> LogStream:
    """Say where to read: what of it is for the reader to select."""
    record = engine.containers.find(job.container).record
    if not (job.stdout or job.stderr):
        raise InvalidArgument("must specify at least one of 'stdout' or 'stderr'")
    return log_stream(engine.config, record)


@jobs.handles(InspectContainer)
async def inspect(engine: Engine, job: InspectContainer) -> ContainerInspect:
    container = engine.containers.find(job.container)
    shown = views.inspect(engine, container)
    if job.size:
        shown.size_rw, shown.size_root_fs = await engine.sizes(container.id)
    return shown


@jobs.handles(ListContainers)
def list_containers(engine: Engine, job: ListContainers) -> msgspec.Raw | Awaitable[list[ContainerSummary]]:
    """List from memory alone: no lock, no other process, unless sizes are asked for."""
    if job.size:
        return measured(engine, job)
    return engine.prepared.answer(job, lambda: _list(engine, job))


async def measured(engine: Engine, job: ListContainers) -> list[ContainerSummary]:
    summaries = _list(engine, job)
    await add_sizes(engine, summaries)
    return summaries


def _list(engine: Engine, job: ListContainers) -> list[ContainerSummary]:
    wanted = filters.container_filter(engine, job.filters)
    everything = job.all or job.limit > 0 or "status" in job.filters
    found = [
        container
        for container in engine.containers
        if (everything or container.record.running or container.record.status is Status.RESTARTING)
        and wanted(container)
    ]
    found.sort(key=lambda container: container.record.created, reverse=True)
    names = links.names(engine)
    return [views.summary(engine, container, names.get(container.id, [])) for container in found[: job.limit or None]]


@jobs.handles(PruneContainers)
async def prune(engine: Engine, job: PruneContainers) -> Pruned:
    """Remove all stopped containers that the filters (until, label, label!) select."""
    wanted = filters.prune_filter(job.filters)
    deleted, reclaimed = [], 0
    for container in engine.containers:
        record = container.record
        if record.status in (Status.CREATED, Status.EXITED) and wanted(record.created, record.config.labels or {}):
            rw, _ = await engine.sizes(container.id)
            await removal.remove(engine, container, force=False)
            deleted.append(record.id)
            reclaimed += rw
    engine.events.append("container", "prune", "", {"reclaimed": str(reclaimed)})
    return Pruned(containers_deleted=deleted or None, space_reclaimed=reclaimed)
