"""Replica: the engine as its database has it, for reading only.

It answers what only reads while the engine itself is frozen or being restarted, so that `docker ps` waits for no
process. What the engine has not committed, nobody has been told; so nothing that was acknowledged is missing here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from services.engine.container import Containers
from services.engine.events import Events
from services.engine.execs import Execs
from services.engine.handlers import containers, exec, images, networks, system, volumes
from services.engine.images import Images
from services.engine.journal import Journal
from services.engine.networks import Networks
from services.engine.prepared import Prepared
from services.engine.quarantine import Quarantine
from services.engine.router import Router
from services.engine.store import Store
from services.engine.volumes import Volumes
from shared.bus.handlers import Handlers
from shared.protocol import (
    Bridge,
    ContainerLogs,
    ImageHistory,
    InspectContainer,
    InspectExec,
    InspectImage,
    InspectNetwork,
    InspectVolume,
    Job,
    ListContainers,
    ListImages,
    ListJobs,
    ListNetworks,
    ListVolumes,
    Ping,
    SystemInfo,
    SystemVersion,
    Unavailable,
    job_name,
)
from shared.runtime.config import Config

__all__ = ["Replica", "reading_jobs"]

JOBS: tuple[type[Job[Any]], ...] = (
    ListContainers, InspectContainer, ContainerLogs, InspectExec, ListImages, InspectImage, ImageHistory, ListNetworks,
    InspectNetwork, ListVolumes, InspectVolume, ListJobs, SystemInfo, SystemVersion, Ping,
)  # fmt: skip
WARNING = "WARNING: the engine does not answer; this is what its records say"


class Replica:
    """Has of `Engine` what the handlers of `JOBS` use."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.store = Store.for_reading(config.root)
        self.router = Router(self, reading_jobs(), lambda flight: None)
        self.booted = asyncio.Event()
        self.prepared = Prepared(self.store)
        self._version = -1
        self.refresh()

    def refresh(self) -> None:
        """Read the records again if somebody has committed since."""
        version = self.store.data_version()
        if version == self._version:
            return
        self._version = version
        self.events = Events(self.store, self.config.event_retention)
        self.journal = Journal(self.store, self.config.job_retention)
        self.containers = Containers(self.store.containers())
        self.execs = Execs(self.store)
        self.quarantine = Quarantine(self.store)
        self.volumes = Volumes(self.store, self.containers, self.quarantine)
        self.images = Images(self.store)
        self.networks = Networks(self.store)
        self.graph = _Graph(self.store.recall("graph_status", dict[str, str]) or {})
        self.bridge = self.store.recall("bridge", Bridge)
        self.networks.note_bridge(self.bridge)

    def warnings_now(self) -> list[str]:
        return [WARNING]

    async def sizes(self, container_id: str) -> tuple[int, int]:
        raise Unavailable("sizes are measured by the graphdriver, and the engine does not answer")


class _Graph:
    def __init__(self, status: dict[str, str]) -> None:
        self.status = status


def reading_jobs() -> Handlers[Any]:
    """Return the handlers of `JOBS`, each on records that are up to date."""
    found: Handlers[Any] = Handlers()
    tables = Handlers[Any](*(noun.jobs for noun in (containers, exec, images, networks, system, volumes)))
    for kind in JOBS:
        found.handles(kind)(_fresh(tables[job_name(kind)]))
    return found


def _fresh(handler: Callable[[Any, Any], Any]) -> Callable[[Replica, Any], Any]:
    def handle(replica: Replica, job: Any) -> Any:
        replica.refresh()
        return handler(replica, job)

    return handle
