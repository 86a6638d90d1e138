"""Jobs that govern a container that runs: pause, unpause, top, update, stats.

Each exists twice: as the API and the operator call it (``container`` is a reference), and ``runtime_…``, as the engine
passes it on to the execdriver (``container`` is a full id).
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import field

from shared.protocol.config import HostConfig, RestartPolicy
from shared.protocol.job import Job, Record

__all__ = [
    "ContainerUpdated",
    "PauseContainer",
    "Processes",
    "RuntimePause",
    "RuntimeSetAddresses",
    "RuntimeSetHost",
    "RuntimeSetResolver",
    "RuntimeTop",
    "RuntimeUnpause",
    "RuntimeUpdate",
    "TopContainer",
    "UnpauseContainer",
    "UpdateContainer",
]


class PauseContainer(Job[None], frozen=True, tag="pause"):
    """Freeze all processes of a container. Errors: Conflict (it does not run, or is paused)."""

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    REPEATABLE: ClassVar[bool] = True
    container: str


class UnpauseContainer(Job[None], frozen=True, tag="unpause"):
    """Let the processes of a paused container run on. Errors: Conflict (it is not paused)."""

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    REPEATABLE: ClassVar[bool] = True
    container: str


class Processes(Record):
    """What ps(1) printed: a row for each process, with as many cells as there are titles."""

    titles: list[str]
    processes: list[list[str]]


class TopContainer(Job[Processes], frozen=True, tag="top"):
    """List the processes of a container as ps(1) on the host does, with ``ps_args`` (words); pids are the host's.

    Errors: Conflict (it does not run), InvalidArgument (ps refuses the arguments, or prints no pids).
    """

    REPEATABLE: ClassVar[bool] = True
    ARGS: ClassVar[tuple[str, ...]] = ("container", "ps_args")
    container: str
    ps_args: str = "-ef"


class ContainerUpdated(Record):
    """``warnings``: what this kernel cannot do, and was discarded."""

    warnings: list[str]


class UpdateContainer(Job[ContainerUpdated], frozen=True, tag="container_update"):
    """Change a container's limits, and its restart policy; at once if it runs.

    ``host_config``: what is to change, all else at its default. -1 lifts ``memory_swap`` and ``cpu_quota``, 0 or less
    ``pids_limit``. Errors: InvalidArgument (no sense, or a field that cannot change), Conflict (with what it has).
    """

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    REPEATABLE: ClassVar[bool] = True
    container: str
    host_config: HostConfig = field(default_factory=HostConfig)
    restart_policy: RestartPolicy | None = None


class RuntimePause(Job[None], frozen=True, tag="runtime_pause"):
    """Freeze a container's cgroup; done when every process stands still. Idempotent.

    Errors: NotFound (it does not run), DockyardError (the kernel did not freeze it; then it is thawed again).
    """

    REPEATABLE: ClassVar[bool] = True
    container: str


class RuntimeUnpause(Job[None], frozen=True, tag="runtime_unpause"):
    """Thaw a container's cgroup. Idempotent. Errors: NotFound (it does not run)."""

    REPEATABLE: ClassVar[bool] = True
    container: str


class RuntimeTop(Job[Processes], frozen=True, tag="runtime_top"):
    """As `TopContainer`. Errors: NotFound (it does not run), InvalidArgument."""

    REPEATABLE: ClassVar[bool] = True
    container: str
    ps_args: str


class RuntimeUpdate(Job[None], frozen=True, tag="runtime_update"):
    """Make the limits of a running container those of ``host_config``; what is not given there stays. Idempotent.

    Errors: NotFound (it does not run), InvalidArgument (no such device), DockyardError (the kernel refuses).
    """

    REPEATABLE: ClassVar[bool] = True
    container: str
    host_config: HostConfig


class RuntimeSetAddresses(Job[None], frozen=True, tag="runtime_set_addresses"):
    """Have a container's hosts file name it under ``addresses``, and no more under those that are ``gone``.

    All other lines are kept; ``directory`` as `RuntimeStart` has it. Idempotent.
    """

    REPEATABLE: ClassVar[bool] = True
    directory: str
    hostname: str
    domainname: str
    addresses: list[str]
    gone: list[str]


class RuntimeSetHost(Job[None], frozen=True, tag="runtime_set_host"):
    """Give a new address to a name in the hosts file of the container whose directory is ``directory``. Idempotent."""

    REPEATABLE: ClassVar[bool] = True
    directory: str
    name: str
    address: str


class RuntimeSetResolver(Job[None], frozen=True, tag="runtime_set_resolver"):
    """Have the container whose directory is ``directory`` ask ``resolver``. Idempotent.

    A resolv.conf that its user has changed is kept.
    """

    REPEATABLE: ClassVar[bool] = True
    directory: str
    resolver: str
    host_config: HostConfig
