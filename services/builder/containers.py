"""Containers: those that a build's steps are made in, and the file trees of images. Each ends with what it is for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from services.builder.trees import Tree
from shared.bus.bus import Bus
from shared.bus.context import check_cancelled, unhindered
from shared.protocol import (
    ContainerConfig,
    CreateContainer,
    DockyardError,
    EndBuild,
    HostConfig,
    MountLayer,
    NotFound,
    RemoveContainer,
    Unavailable,
)

__all__ = ["Containers", "FileTree"]

R = TypeVar("R")
ENDLESS = None  # a build takes as long as it takes
PATIENCE = 60.0  # seconds for which a removal is asked for again


@dataclass(frozen=True)
class FileTree:
    """A container's root filesystem, mounted: ``path`` on the host, ``source`` what is in it."""

    container: str
    path: Path
    source: Tree


@dataclass
class Containers:
    """``build``: the id of the job."""

    bus: Bus
    build: str
    _keep: set[str] = field(default_factory=set)

    def create(self, image: str, config: ContainerConfig, host_config: HostConfig) -> str:
        config.image = image
        job = CreateContainer(config=config, host_config=host_config, build=self.build)
        return self.bus.call(job, timeout=ENDLESS).id

    def remove(self, container: str) -> None:
        """Remove a container and its processes; one that is gone already is no error."""
        with unhindered():
            _again(lambda: self._remove(container))

    def _remove(self, container: str) -> None:
        try:
            self.bus.call(RemoveContainer(container=container, force=True, volumes=True), timeout=ENDLESS)
        except NotFound:
            return

    def keep(self, container: str) -> None:
        """Let a container outlive the build."""
        self._keep.add(container)

    def end(self) -> None:
        """Remove what is left. If the engine cannot now, it does when it is back."""
        with unhindered():
            _again(lambda: self.bus.call(EndBuild(build=self.build, keep=sorted(self._keep)), timeout=ENDLESS))

    @contextmanager
    def tree(self, image: str) -> Iterator[FileTree]:
        """Have the files of an image for a while, in a container of its own that never runs."""
        container = self.create(image, ContainerConfig(cmd=["none"], entrypoint=[""]), HostConfig(network_mode="none"))
        try:
            path = Path(self.bus.call(MountLayer(container=container), timeout=ENDLESS))
            root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield FileTree(container, path, Tree(root))
            finally:
                os.close(root)
        finally:
            self.remove(container)


def _again(work: Callable[[], R]) -> R | None:
    """Do something that may be done twice, while processes come and go; it is given up without an error."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return work()
        except Unavailable:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.2)
            check_cancelled()
        except DockyardError:
            return None
