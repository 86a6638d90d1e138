"""The contents of containers: changes, copies, export; and the images that are made of them, or of a tar."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from services.engine.container import Container
from services.engine.lifecycle.stillness import held_still
from services.engine.record import Status
from services.engine.views import rfc3339
from shared.bus.context import job_id
from shared.bus.handlers import Handlers
from shared.dockerfile.instructions import apply_changes
from shared.protocol import (
    CommitContainer,
    CommitLayer,
    Conflict,
    ContainerChanges,
    ContainerConfig,
    ContainerTree,
    CopyFromContainer,
    CopyToContainer,
    ExportContainer,
    ExportLayer,
    FilesystemChange,
    ImportImage,
    ImportLayer,
    InvalidArgument,
    LayerChanges,
    NewImage,
    PathArchive,
    PathStat,
    ReadPath,
    StatContainerPath,
    StatPath,
    Ticket,
    TreeMount,
    WritePath,
    decode_body,
    encode_body,
)
from shared.protocol.reference import familiar, with_tag
from shared.runtime.platforms import parse_platform

if TYPE_CHECKING:
    from services.engine.engine import Engine

jobs: Handlers[Engine] = Handlers()

CONTAINERS_ONLY = (
    "hostname", "domainname", "attach_stdin", "attach_stdout", "attach_stderr", "tty", "open_stdin", "stdin_once",
    "image", "network_disabled", "mac_address",
)  # fmt: skip


@jobs.handles(ContainerChanges)
async def changes(engine: Engine, job: ContainerChanges) -> list[FilesystemChange]:
    return await engine.call(LayerChanges(container=engine.containers.find(job.container).id), timeout=None)


@jobs.handles(StatContainerPath)
async def stat(engine: Engine, job: StatContainerPath) -> PathStat:
    return await engine.call(StatPath(tree=_tree(engine, job.container), path=job.path))


@jobs.handles(CopyFromContainer)
async def copy_out(engine: Engine, job: CopyFromContainer) -> PathArchive:
    archive = await engine.call(ReadPath(tree=_tree(engine, job.container), path=job.path))
    engine.tell(engine.containers.find(job.container), "archive-path")
    return archive


@jobs.handles(CopyToContainer)
async def copy_in(engine: Engine, job: CopyToContainer) -> None:
    container = engine.containers.find(job.container)
    write = WritePath(
        tree=_tree(engine, job.container),
        path=job.path,
        no_overwrite_dir_non_dir=job.no_overwrite_dir_non_dir,
        user=container.record.config.user if job.copy_uid_gid else "",
    )
    await engine.call(write, timeout=None)
    engine.tell(container, "extract-to-dir")


def _tree(engine: Engine, ref: str) -> ContainerTree:
    record = engine.containers.find(ref).record
    mounts = [
        TreeMount(source=point.source, target=point.destination, read_only=not point.writable)
        for point in record.mounts
        if point.source and not point.subpath  # the path of a part of a volume is the volume's own matter
    ]
    return ContainerTree(
        container=record.id,
        name=ref,
        pid=record.pid,
        read_only=record.host_config.readonly_rootfs,
        mounts=mounts,
    )


@jobs.handles(ExportContainer)
async def export(engine: Engine, job: ExportContainer) -> Ticket:
    container = _present(engine, job.container, "export")
    ticket = await engine.call(ExportLayer(container=container.id))
    engine.tell(container, "export")
    return ticket


def _present(engine: Engine, ref: str, verb: str) -> Container:
    container = engine.containers.find(ref)
    if container.record.status is Status.REMOVING:
        raise Conflict(f"You cannot {verb} container {ref} which is being removed")
    return container


@jobs.handles(CommitContainer)
async def commit(engine: Engine, job: CommitContainer) -> str:
    container = _present(engine, job.container, "commit")
    record, parent = container.record, engine.images.of_container(container.record.image)
    tags = _tags(job.repo, job.tag)
    image = NewImage(
        config=_image_config(apply_changes(_completed(job.config, record.config), job.changes)),
        architecture=parent.architecture,
        os=parent.os,
        variant=parent.variant,
        author=job.author,
        comment=job.comment,
        created=rfc3339(time.time_ns()),
        created_by=" ".join(_words(record.config.cmd) or []),
        parent=parent,
        tags=tags,
        action="create",
        order=job_id(),
    )
    order = CommitLayer(container=record.id, image=image)
    if job.pause:
        async with held_still(engine, container):
            image_id = await engine.call(order, timeout=None)
    else:
        image_id = await engine.call(order, timeout=None)
    image_id = str(decode_body(engine.store.outcome(job_id()) or encode_body(image_id), str))  # if made before: that
    named = familiar(tags[0]) if tags else ""
    engine.tell(container, "commit", comment=job.comment, imageID=image_id, imageRef=named)
    return image_id


@jobs.handles(ImportImage)
async def import_image(engine: Engine, job: ImportImage) -> str:
    platform = parse_platform(job.platform or "linux")
    if platform.os != "linux":
        raise InvalidArgument("operating system is not supported")
    image = NewImage(
        config=_image_config(apply_changes(ContainerConfig(), job.changes)),
        architecture=platform.architecture,
        os=platform.os,
        variant=platform.variant or ("v7" if platform.architecture == "arm" else ""),
        comment=job.message or f"Imported from {job.src}",
        created=rfc3339(time.time_ns()),
        tags=_tags(job.repo, job.tag),
        action="import",
    )
    return await engine.call(ImportLayer(src=job.src, image=image), timeout=None)


def _tags(repo: str, tag: str) -> list[str]:
    """Return the complete reference of a new image, if it is to have one. Errors: InvalidArgument."""
    if not repo:
        return []
    reference = with_tag(repo, tag)
    if "@" in reference:
        raise InvalidArgument(f"refusing to create a tag with a digest reference: {reference}")
    return [reference]


def _completed(given: ContainerConfig | None, own: ContainerConfig) -> ContainerConfig:
    """Lay what a commit asks for over the container's own configuration, as moby's runconfig merge does."""
    if given is None:
        return own
    config = msgspec.structs.replace(given)
    for name in ("user", "working_dir", "stop_signal", "shell", "healthcheck", "on_build", "stop_timeout"):
        setattr(config, name, getattr(given, name) or getattr(own, name))
    for name in ("labels", "exposed_ports", "volumes"):
        setattr(config, name, {**(getattr(own, name) or {}), **(getattr(given, name) or {})} or None)
    env = {entry.split("=", 1)[0]: entry for entry in [*(own.env or []), *(given.env or [])]}
    config.env = list(env.values())
    config.entrypoint, config.cmd = _words(given.entrypoint), _words(given.cmd)
    if config.entrypoint is None:
        config.entrypoint = _words(own.entrypoint)
        config.cmd = config.cmd or _words(own.cmd)
    return config


def _words(value: list[str] | str | None) -> list[str] | None:
    return [value] if isinstance(value, str) else value or None


def _image_config(config: ContainerConfig) -> ContainerConfig:
    """Leave out what is a container's alone."""
    empty = ContainerConfig()
    return msgspec.structs.replace(config, **{name: getattr(empty, name) for name in CONTAINERS_ONLY})
