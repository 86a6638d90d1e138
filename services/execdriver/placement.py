"""Placement: where a container's control group is, and where its monitor runs, so that both outlive this driver.

| cgroup-driver | container                                      | monitor                               |
|---------------|------------------------------------------------|---------------------------------------|
| cgroupfs      | PARENT/ID                                      | where this driver runs                |
| systemd       | SLICE/dockyard-ID.scope/container              | the same scope (v2: `monitor` in it)  |

A service of systemd's takes all in its cgroup along when it stops; a scope is a unit of its own. It is delegated:
what is below it is ours.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from services.execdriver.cgroups import ROOT, Cgroup
from services.execdriver.scopes import Scopes
from shared.protocol import DockyardError
from shared.runtime.config import Config
from shared.runtime.slices import choose, scope_cgroup

__all__ = ["Cgroupfs", "Placement", "Systemd", "placement"]

MONITOR = "monitor"
WATCHED = ("systemd", "unified")  # the hierarchies in which systemd keeps track of its units


class Placement(Protocol):
    """How the monitor gets away from us. Both ``admit`` are called before the monitor does anything."""

    def cgroup(self, container: str, parent: str) -> str:
        """Return the container's cgroup, as ``/dockyard/ID``; ``parent``: HostConfig's, or empty."""

    def admit(self, cgroup: str, monitor: int) -> None:
        """Place the monitor of a container that is about to be created. Errors: DockyardError."""

    def admit_exec(self, cgroup: str, monitor: int) -> None:
        """Place the monitor of an exec beside the container's. Errors: DockyardError."""

    def clear(self, cgroup: str) -> None:
        """Remove what is left when a container's cgroup is gone. Idempotent; never fails."""


class Cgroupfs:
    def __init__(self, parent: str) -> None:
        self._parent = parent

    def cgroup(self, container: str, parent: str) -> str:
        path = os.path.normpath(f"/{parent or self._parent}/{container}")  # ".." leads no higher than the root
        return "/" + path.lstrip("/")

    def admit(self, cgroup: str, monitor: int) -> None:
        pass

    def admit_exec(self, cgroup: str, monitor: int) -> None:
        pass

    def clear(self, cgroup: str) -> None:
        pass


class Systemd:
    """``root``: where cgroups are mounted."""

    def __init__(self, parent: str, scopes: Scopes, root: Path = ROOT) -> None:
        self._parent, self._scopes, self._root = parent, scopes, root

    def cgroup(self, container: str, parent: str) -> str:
        return scope_cgroup(parent or self._parent, container)

    def admit(self, cgroup: str, monitor: int) -> None:
        place = Path(cgroup).parent
        scope = Cgroup(str(place), self._root)
        self._scopes.start(place.name, place.parent.name, monitor)
        if scope.unified:
            self._set_apart(scope, monitor)

    def admit_exec(self, cgroup: str, monitor: int) -> None:
        scope = Cgroup(str(Path(cgroup).parent), self._root)
        if scope.unified:
            self._set_apart(scope, monitor)
            return
        for file in scope.process_files():
            _move(monitor, file.parent)

    def _set_apart(self, scope: Cgroup, monitor: int) -> None:
        """cgroup v2 has no processes where controllers are handed on (Linux admin-guide, cgroup-v2)."""
        inner = scope.directory("") / MONITOR
        inner.mkdir(exist_ok=True)
        _move(monitor, inner)

    def clear(self, cgroup: str) -> None:
        """systemd knows not every hierarchy of v1. Where it watches for a scope to be empty, nothing may be removed."""
        scope = Cgroup(str(Path(cgroup).parent), self._root)
        watched = {scope.root / name / scope.path.lstrip("/") for name in WATCHED}
        for directory in () if scope.unified else set(scope.directories()) - watched:
            with suppress(OSError):  # a monitor that is ending may still be there: then systemd removes it
                directory.rmdir()


def _move(pid: int, directory: Path) -> None:
    try:
        (directory / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        raise DockyardError(f"monitor not moved into {directory}: {error.strerror}") from error


def placement(config: Config) -> Placement:
    driver, parent = choose(config.cgroup_driver, config.cgroup_parent)
    return Systemd(parent, Scopes()) if driver == "systemd" else Cgroupfs(parent)
