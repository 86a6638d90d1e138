"""Jobs between the engine and the execdriver: one OCI container and its monitor.

``container`` is always a full id here. ``generation`` counts a container's starts; what belongs to an older
generation is left alone or cleaned up, never mistaken for the present one.
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import field

from shared.protocol.config import ContainerConfig, HostConfig
from shared.protocol.health import Health
from shared.protocol.job import Data, Job
from shared.protocol.mounts import MountPoint
from shared.protocol.netdriver import Interface
from shared.protocol.streams import Ticket

__all__ = [
    "ContainerExited",
    "LogPolicy",
    "Running",
    "RuntimeAttach",
    "RuntimeDelete",
    "RuntimeKill",
    "RuntimeList",
    "RuntimeResize",
    "RuntimeStart",
    "RuntimeStarted",
]


class LogPolicy(Data, frozen=True):
    """How output is kept. json-file, local: files of ``max_size`` bytes, ``max_file`` of them, in the container's
    directory as `LogStream` tells; journald: entries with CONTAINER_TAG ``tag``; none: not at all."""

    driver: str = "json-file"
    max_size: int = 20_000_000
    max_file: int = 5
    compress: bool = False
    tag: str = ""


class RuntimeStarted(Data, frozen=True):
    pid: int  # of the container's init process
    monitor_pid: int


class RuntimeStart(Job[RuntimeStarted], frozen=True, tag="runtime_start"):
    """Create and start a container from a mounted rootfs, in the network namespace of ``interface``.

    ``config`` is complete: image and request merged, ``args`` the command line, ``config.env`` all of the environment.
    ``directory`` is the container's own (hosts, hostname, resolv.conf, logs). ``mounts`` are all but HostConfig.Tmpfs,
    with volumes at their ``source``. ``addresses`` are those in all its networks, for its hosts file; none: those of
    ``interface``. Attachments that wait are connected before the process runs. A start that fails leaves
    nothing behind.
    Errors: CommandNotFound, CommandNotExecutable, InvalidArgument, Conflict (that generation runs already).
    """

    REPEATABLE: ClassVar[bool] = True
    container: str
    generation: int
    name: str
    rootfs: str
    directory: str
    args: list[str]
    config: ContainerConfig
    host_config: HostConfig
    interface: Interface
    mounts: list[MountPoint] = field(default_factory=list)
    log: LogPolicy = LogPolicy()
    addresses: list[str] = field(default_factory=list)


class RuntimeKill(Job[None], frozen=True, tag="runtime_kill"):
    """Send signal number ``signal`` to init. Errors: NotFound (no such process any more).

    With ``once``, the id of the job that asks, this signal is sent to this process no second time for that job.
    DockyardError: a driver died just when it was sending it, and nobody knows.
    """

    REPEATABLE: ClassVar[bool] = True

    container: str
    signal: int
    once: str = ""


class RuntimeDelete(Job[None], frozen=True, tag="runtime_delete"):
    """Remove all that the runtime holds of a container that has exited: cgroup, state, monitor. Idempotent."""

    REPEATABLE: ClassVar[bool] = True
    container: str


class RuntimeResize(Job[None], frozen=True, tag="runtime_resize"):
    """Give the terminal of a container that runs a size, in characters. Errors: Conflict (it does not run)."""

    REPEATABLE: ClassVar[bool] = True
    container: str
    height: int
    width: int


class RuntimeAttach(Job[Ticket], frozen=True, tag="runtime_attach"):
    """Ask for a connection to the container's present or next process.

    Who redeems the ticket receives, once the process exists and before it runs, one byte with a descriptor
    (SCM_RIGHTS): a SOCK_SEQPACKET connection to the monitor. Packets read from it are a stream byte (2 stdout,
    3 stderr) and data; what is written to it goes to stdin; shutting down the writing side ends stdin.
    It is readable to its end even if the execdriver dies meanwhile.
    """

    REPEATABLE: ClassVar[bool] = True
    container: str


class Running(Data, frozen=True):
    """A container that the runtime knows. ``exit_code`` None while it runs; ``paused``: its cgroup is frozen."""

    container: str
    generation: int
    pid: int
    monitor_pid: int
    exit_code: int | None = None
    exited_at: float = 0.0  # seconds since the epoch
    oom_killed: bool = False
    error: str = ""  # why its exit code is not its own
    paused: bool = False
    health: Health | None = None  # None without a health check, and of one that has ended


class RuntimeList(Job[list[Running]], frozen=True, tag="runtime_list"):
    """List what runs and what has exited but has not been deleted: the truth to reconcile with."""

    REPEATABLE: ClassVar[bool] = True


class ContainerExited(Job[None], frozen=True, tag="container_exited"):
    """execdriver → engine: a container's init ended. Sent until acknowledged; the exit file stays until
    `RuntimeDelete`. ``exit_code`` is 128+n for signal n; ``error`` says why it is not known, and 137 then."""

    REPEATABLE: ClassVar[bool] = True

    container: str
    generation: int
    exit_code: int
    exited_at: float
    oom_killed: bool = False
    error: str = ""
