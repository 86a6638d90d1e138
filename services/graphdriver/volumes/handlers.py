"""Job ↔ operation, for volumes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.bus.handlers import Handlers
from shared.protocol import (
    DockyardError,
    HeldVolume,
    ListHeldVolumes,
    MakeVolume,
    MeasureVolume,
    MountVolume,
    PopulateVolume,
    UnmakeVolume,
    UnmountVolume,
)
from shared.runtime.reasons import reason

if TYPE_CHECKING:
    from services.graphdriver.handlers import GraphDriver

jobs: Handlers[GraphDriver] = Handlers()


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DockyardError(f"{what}: {reason(error)}") from error


@jobs.handles(MakeVolume)
def create(driver: GraphDriver, job: MakeVolume) -> str:
    with _told(f"create {job.name}"):
        return str(driver.volumes.create(job.driver, job.name, job.options))


@jobs.handles(MountVolume)
def mount(driver: GraphDriver, job: MountVolume) -> dict[str, str]:
    with _told(f"error while mounting volume '{job.name}'"):
        return driver.volumes.mount(job.driver, job.name, job.options, job.container, job.subpaths)


@jobs.handles(PopulateVolume)
def populate(driver: GraphDriver, job: PopulateVolume) -> None:
    with _told(f"error while filling volume '{job.name}'"):
        driver.volumes.populate(job.driver, job.name, job.options, job.container, job.destination)


@jobs.handles(UnmountVolume)
def unmount(driver: GraphDriver, job: UnmountVolume) -> None:
    with _told(f"error while unmounting volume '{job.name}'"):
        driver.volumes.unmount(job.driver, job.name, job.container, last=job.last)


@jobs.handles(UnmakeVolume)
def remove(driver: GraphDriver, job: UnmakeVolume) -> None:
    with _told(f"remove {job.name}"):
        driver.volumes.remove(job.driver, job.name)


@jobs.handles(MeasureVolume)
def usage(driver: GraphDriver, job: MeasureVolume) -> int:
    with _told(f"volume {job.name} not measured"):
        return driver.volumes.usage(job.driver, job.name)


@jobs.handles(ListHeldVolumes)
def held(driver: GraphDriver, job: ListHeldVolumes) -> list[HeldVolume]:
    with _told("volumes not listed"):
        return driver.volumes.held()
