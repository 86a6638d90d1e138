"""Jobs that govern a container that runs: pause, unpause, top, update, stats.

Each exists twice: as the API and the operator call it (``container`` is a reference), and ``runtime_…``, as the engine
passes it on to the execdriver (``container`` is a full id).
"""

from __future__ import annotations

from typing import ClassVar

from shared.protocol.job import Job

__all__ = ["PauseContainer", "RuntimePause", "RuntimeSetHost", "RuntimeUnpause", "UnpauseContainer"]


class PauseContainer(Job[None], frozen=True, tag="pause"):
    """Freeze all processes of a container. Errors: Conflict (it does not run, or is paused)."""

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    container: str


class UnpauseContainer(Job[None], frozen=True, tag="unpause"):
    """Let the processes of a paused container run on. Errors: Conflict (it is not paused)."""

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    container: str


class RuntimePause(Job[None], frozen=True, tag="runtime_pause"):
    """Freeze a container's cgroup; done when every process stands still. Idempotent.

    Errors: NotFound (it does not run), DockyardError (the kernel did not freeze it; then it is thawed again).
    """

    container: str


class RuntimeUnpause(Job[None], frozen=True, tag="runtime_unpause"):
    """Thaw a container's cgroup. Idempotent. Errors: NotFound (it does not run)."""

    container: str


class RuntimeSetHost(Job[None], frozen=True, tag="runtime_set_host"):
    """Give a new address to a name in the hosts file of the container whose directory is ``directory``. Idempotent."""

    directory: str
    name: str
    address: str
