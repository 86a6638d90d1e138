"""Job ↔ operation."""

from __future__ import annotations

import secrets
import shutil
import socket
from collections.abc import Mapping
from types import MappingProxyType

from services.graphdriver import syscalls
from services.graphdriver.blobs import Blobs
from services.graphdriver.contents import handlers as contents
from services.graphdriver.contents.sizes import usage
from services.graphdriver.export import export_images
from services.graphdriver.layers import Layers, choose_driver
from services.graphdriver.load import Loader, load_archive
from services.graphdriver.registry.downloads import Downloads
from services.graphdriver.registry.sessions import Registries
from services.graphdriver.sweeping import swept
from services.graphdriver.volumes import handlers as volumes
from services.graphdriver.volumes.images import ImageFiles
from services.graphdriver.volumes.local import Local
from services.graphdriver.volumes.volumes import Volumes
from shared.bus.bus import Bus
from shared.bus.handlers import Handlers
from shared.bus.intake import incoming
from shared.bus.tickets import TicketServer
from shared.protocol import (
    CreateLayer,
    DockyardError,
    ExportImages,
    GraphCollect,
    GraphStatus,
    LayerUsage,
    LoadImages,
    MeasureLayer,
    MountLayer,
    NotFound,
    RemoveLayer,
    Ticket,
    UnmountLayer,
)
from shared.runtime.config import Config
from shared.runtime.platforms import parse_platform
from shared.runtime.reasons import reason

__all__ = ["GraphDriver", "jobs"]


class GraphDriver:
    """``environ`` names proxies."""

    def __init__(self, config: Config, bus: Bus, environ: Mapping[str, str] = MappingProxyType({})) -> None:
        root = config.root / "graph"
        self.temporary = root / "tmp"
        for left in self.temporary.glob("*/merged"):
            syscalls.unmount(left)  # a trial mount that was killed in the middle
        shutil.rmtree(self.temporary, ignore_errors=True)  # what an earlier process left half-done
        self.temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
        syscalls.spread_out(self.temporary)  # layers are made in there
        root.chmod(0o710)
        self.blobs = Blobs(root)
        self.layers = Layers(root, choose_driver(config.storage_driver, self.temporary, config.storage_opt), self.blobs)
        local, images = Local(config.root / "volumes"), ImageFiles(config.run / "images", self.layers)
        self.volumes = Volumes([local, images], config.run / "volumes", self.layers)
        self.tickets = TicketServer(config.run / "graphdriver.tickets")
        self.bus, self.config = bus, config
        self.registries = Registries(config, environ)
        self.downloads = Downloads(self.blobs, self.temporary, config.max_download_attempts)


jobs: Handlers[GraphDriver] = Handlers(volumes.jobs, contents.jobs)


@jobs.handles(CreateLayer)
def create(driver: GraphDriver, job: CreateLayer) -> dict[str, str]:
    try:
        return driver.layers.create(job.container, job.chain_ids)
    except OSError as error:
        raise DockyardError(f"layer of {job.container} not created: {reason(error)}") from error


@jobs.handles(MountLayer)
def mount(driver: GraphDriver, job: MountLayer) -> str:
    try:
        return str(driver.layers.mount(job.container))
    except OSError as error:
        raise DockyardError(f"layer of {job.container} not mounted: {reason(error)}") from error


@jobs.handles(UnmountLayer)
def unmount(driver: GraphDriver, job: UnmountLayer) -> None:
    try:
        driver.layers.unmount(job.container)
    except OSError as error:
        raise DockyardError(f"layer of {job.container} not unmounted: {reason(error)}") from error


@jobs.handles(RemoveLayer)
def remove(driver: GraphDriver, job: RemoveLayer) -> None:
    try:
        driver.layers.remove(job.container)
    except OSError as error:
        raise DockyardError(f"layer of {job.container} not removed: {reason(error)}") from error


@jobs.handles(MeasureLayer)
def measure(driver: GraphDriver, job: MeasureLayer) -> LayerUsage:
    try:
        return usage(driver.layers, job.container)
    except OSError as error:
        raise DockyardError(f"layer of {job.container} not measured: {reason(error)}") from error


@jobs.handles(GraphStatus)
def status(driver: GraphDriver, job: GraphStatus) -> dict[str, str]:
    return driver.layers.driver.status()


@jobs.handles(LoadImages)
def load(driver: GraphDriver, job: LoadImages) -> None:
    platform = parse_platform(job.platform) if job.platform else None
    to = Loader(driver.blobs, driver.layers, driver.bus, quiet=job.quiet, platform=platform)
    directory = driver.temporary / secrets.token_hex(8)
    directory.mkdir(mode=0o700)
    try:
        with swept(driver, "load"), incoming(driver.tickets) as source:
            load_archive(source, directory, to)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@jobs.handles(ExportImages)
def export(driver: GraphDriver, job: ExportImages) -> Ticket:
    for saved in job.images:
        for digest in (saved.image.id, *(layer.digest for layer in saved.image.layers)):
            if not driver.blobs.has(digest):
                raise NotFound(f"blob {digest} is missing")
        for layer in saved.image.layers:
            if driver.blobs.size(layer.digest) != layer.size:
                raise DockyardError(f"blob {layer.digest} is damaged")

    def send(connection: socket.socket) -> None:
        digests = [d for s in job.images for d in (s.image.id, *(layer.digest for layer in s.image.layers))]
        with driver.blobs.hold(digests):
            export_images(job.images, driver.blobs, connection)

    return driver.tickets.issue(send, whole=True)


@jobs.handles(GraphCollect)
def collect(driver: GraphDriver, job: GraphCollect) -> int:
    def is_asked(name: str) -> bool:
        return job.begin <= name and (not job.end or name < job.end)

    keep = set(job.keep_names)
    try:
        freed = driver.blobs.collect(keep, is_asked)
        return freed + driver.layers.collect(keep, set(job.keep_containers), is_asked)
    except OSError as error:
        raise DockyardError(f"graph not collected: {reason(error)}") from error
