"""Job ↔ operation, for the contents of containers."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, cast

from services.graphdriver.contents import paths
from services.graphdriver.contents.changes import changes
from services.graphdriver.contents.commit import write_changes
from services.graphdriver.contents.images import Maker
from services.graphdriver.contents.source import import_tar
from services.graphdriver.pack import TreeWriter
from services.graphdriver.sweeping import swept
from shared.bus.handlers import Handlers
from shared.bus.intake import incoming
from shared.protocol import (
    CommitLayer,
    ConfigureImage,
    DockyardError,
    ExportLayer,
    FilesystemChange,
    ImportLayer,
    InvalidArgument,
    LayerChanges,
    NotFound,
    PathArchive,
    PathStat,
    ReadImageLayer,
    ReadPath,
    StatPath,
    Ticket,
    WritePath,
)
from shared.runtime.compression import ERRORS, decompressed, unpacked
from shared.runtime.reasons import reason

if TYPE_CHECKING:
    from services.graphdriver.handlers import GraphDriver

jobs: Handlers[GraphDriver] = Handlers()

BUFFER = 1 << 16  # bytes


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DockyardError(f"{what}: {reason(error)}") from error


@jobs.handles(LayerChanges)
def container_changes(driver: GraphDriver, job: LayerChanges) -> list[FilesystemChange]:
    with _told("changes not told"), driver.layers.compared(job.container) as (above, below):
        return [
            FilesystemChange(path="/" + os.fsencode(change.path).decode("utf-8", "replace"), kind=change.kind)
            for change in changes(above, below, sparse=driver.layers.driver.sparse)
        ]


@jobs.handles(StatPath)
def stat_path(driver: GraphDriver, job: StatPath) -> PathStat:
    with _told(job.path):
        return paths.stat_path(driver.layers, job.tree, job.path)


@jobs.handles(ReadPath)
def read(driver: GraphDriver, job: ReadPath) -> PathArchive:
    def send(connection: socket.socket) -> None:
        with connection.makefile("wb", BUFFER) as sink:
            paths.read(driver.layers, job.tree, job.path, sink)

    with _told(job.path):
        stat = paths.stat_path(driver.layers, job.tree, job.path)
    return PathArchive(stat=stat, ticket=driver.tickets.issue(send, whole=True))


@jobs.handles(WritePath)
def write(driver: GraphDriver, job: WritePath) -> None:
    with _told(job.path):
        paths.check_target(driver.layers, job)
        with incoming(driver.tickets) as source:
            try:
                paths.write(driver.layers, job, unpacked(source))
                while source.read(BUFFER):  # what follows the archive's end
                    continue
            except ERRORS as error:
                raise InvalidArgument(f"invalid archive: {error}") from error


@jobs.handles(ExportLayer)
def export(driver: GraphDriver, job: ExportLayer) -> Ticket:
    def send(connection: socket.socket) -> None:
        with driver.layers.borrowed(job.container) as rootfs, connection.makefile("wb", BUFFER) as sink:
            root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                writer = TreeWriter(sink)
                writer.add_tree(root, "", "")
                writer.finish()
            finally:
                os.close(root)

    with _told("not exported"), driver.layers.borrowed(job.container):
        return driver.tickets.issue(send, whole=True)


@jobs.handles(CommitLayer)
def commit(driver: GraphDriver, job: CommitLayer) -> str:
    with swept(driver, "not committed"):
        mounted = frozenset(path.strip("/") for path in job.mounted)
        return _maker(driver).make(job.image, partial(write_changes, driver.layers, job.container, mounted))


@jobs.handles(ConfigureImage)
def configure(driver: GraphDriver, job: ConfigureImage) -> str:
    with swept(driver, "not recorded"):
        return _maker(driver).configure(job.image, job.source)


@jobs.handles(ImportLayer)
def import_image(driver: GraphDriver, job: ImportLayer) -> str:
    with swept(driver, "not imported"):
        return _maker(driver).make(job.image, partial(import_tar, job.src, driver.tickets))


def _maker(driver: GraphDriver) -> Maker:
    return Maker(driver.blobs, driver.layers, driver.bus, driver.temporary)


@jobs.handles(ReadImageLayer)
def tar_layer(driver: GraphDriver, job: ReadImageLayer) -> Ticket:
    if not driver.blobs.has(job.digest):
        raise NotFound(f"blob {job.digest} is missing")

    def send(connection: socket.socket) -> None:
        path = driver.blobs.path(job.digest)
        with driver.blobs.hold([job.digest]), path.open("rb") as blob, connection.makefile("wb", BUFFER) as sink:
            shutil.copyfileobj(cast("BinaryIO", decompressed(blob)), sink, BUFFER)

    return driver.tickets.issue(send, whole=True)
