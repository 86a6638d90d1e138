"""Jobs on containers, as the API and the operator call them; the engine holds their handlers.

A field ``container`` is a reference: an id, an unambiguous id prefix, or a name. Every job here may raise NotFound.
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import field

from shared.protocol.config import ContainerConfig, HostConfig, NetworkingConfig
from shared.protocol.container_views import ContainerInspect, ContainerSummary
from shared.protocol.job import Data, Job, Record
from shared.protocol.streams import Ticket

__all__ = [
    "AttachContainer",
    "Attachment",
    "ContainerCreated",
    "ContainerExit",
    "ContainerLogs",
    "CreateContainer",
    "InspectContainer",
    "KillContainer",
    "ListContainers",
    "LogStream",
    "NoteDetach",
    "PruneContainers",
    "Pruned",
    "RemoveContainer",
    "RenameContainer",
    "ResizeContainer",
    "RestartContainer",
    "StartContainer",
    "StopContainer",
    "WaitContainer",
]

Filters = dict[str, list[str]]


class ContainerCreated(Record):
    id: str
    warnings: list[str]


class CreateContainer(Job[ContainerCreated], frozen=True, tag="create"):
    """Create a container; the image must be there.

    ``build``: the id of a build that it is a step of, with which it ends (`EndBuild`); it gets none of the image's
    volumes, so that what the step puts there is in the step's layer. ``read_only_non_recursive``: of the host's
    directories that ``host_config.binds`` mounts read-only, what is mounted below stays as it is.
    Errors: NotFound (no such image), Conflict (name in use), InvalidArgument, NotImplementedByUs.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("name",)
    REPEATABLE: ClassVar[bool] = True

    name: str = ""
    platform: str = ""
    config: ContainerConfig = field(default_factory=ContainerConfig)
    host_config: HostConfig = field(default_factory=HostConfig)
    networking_config: NetworkingConfig | None = None
    build: str = ""
    read_only_non_recursive: bool = False


class StartContainer(Job[None], frozen=True, tag="start"):
    """Start a container. Errors: NotModified (it runs), CommandNotFound, CommandNotExecutable, Conflict."""

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    REPEATABLE: ClassVar[bool] = True
    container: str


class StopContainer(Job[None], frozen=True, tag="stop"):
    """Stop a container: its stop signal, then SIGKILL after the timeout. Errors: NotModified (it does not run).

    ``shutdown``: the host goes down; the restart policy does not hold now, but when the stack is started again.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    REPEATABLE: ClassVar[bool] = True
    container: str
    timeout: float | None = None  # seconds; None: the container's own, else 10; negative: for ever
    signal: str = ""
    shutdown: bool = False


class RestartContainer(Job[None], frozen=True, tag="restart"):
    """Stop a container as `StopContainer` does, and start it; one that does not run is started."""

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    REPEATABLE: ClassVar[bool] = True
    container: str
    timeout: float | None = None
    signal: str = ""


class KillContainer(Job[None], frozen=True, tag="kill"):
    """Send a signal to a container's init process. Errors: Conflict (not running), InvalidArgument (the signal)."""

    ARGS: ClassVar[tuple[str, ...]] = ("container", "signal")
    REPEATABLE: ClassVar[bool] = True
    container: str
    signal: str = "SIGKILL"


class RemoveContainer(Job[None], frozen=True, tag="rm"):
    """Remove a container. Errors: Conflict (it runs, and not ``force``)."""

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    REPEATABLE: ClassVar[bool] = True
    container: str
    force: bool = False
    volumes: bool = False
    link: bool = False


class RenameContainer(Job[None], frozen=True, tag="rename"):
    """Give a container another name. Errors: Conflict (name in use), InvalidArgument."""

    ARGS: ClassVar[tuple[str, ...]] = ("container", "name")
    REPEATABLE: ClassVar[bool] = True
    container: str
    name: str


class ResizeContainer(Job[None], frozen=True, tag="resize"):
    """Tell a container's terminal its size in characters. Errors: Conflict (not running)."""

    ARGS: ClassVar[tuple[str, ...]] = ("container", "height", "width")
    REPEATABLE: ClassVar[bool] = True
    container: str
    height: int
    width: int


class ExitError(Record):
    message: str


class ContainerExit(Record, omit_defaults=True):
    status_code: int = field(name="StatusCode")
    error: ExitError | None = None


class WaitContainer(Job[ContainerExit], frozen=True, tag="wait"):
    """Wait for an exit. ``condition``: ``not-running``, ``next-exit`` or ``removed``; may be called again at will.

    The first STATUS (stream ``ready``, text "ID GENERATION") says that the wait is in force. A wait that was lost with
    the engine is taken up again with that id and ``generation``: an exit in between is not missed.

    Not repeatable: it is taken up again with the generation that it waits for.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    container: str
    condition: str = "not-running"
    generation: int | None = None


class LogStream(Data, frozen=True):
    """Where a container's output is to be read, by whoever asked and with nobody in between (docs/decisions/0006).

    ``driver`` json-file or local: ``path`` is the file that is written to now, in the Kubernetes CRI log format, with
    the earlier ones beside it; journald: the journal's entries of that container. ``attributes``: what ``details``
    shows. One that is ``running`` can be followed, until the exit of its ``generation``.
    """

    container: str
    tty: bool
    driver: str
    path: str
    generation: int
    running: bool
    attributes: dict[str, str] = field(default_factory=dict)


class Attachment(Data, frozen=True):
    """``ticket`` delivers, once the container's process exists, a descriptor of its monitor's attach socket
    (see `shared.protocol.runtime.RuntimeAttach`). ``logs``: earlier output, to be sent first."""

    container: str
    tty: bool
    open_stdin: bool
    ticket: Ticket | None = None
    logs: LogStream | None = None


class AttachContainer(Job[Attachment], frozen=True, tag="attach"):
    """Connect to a container's stdin, stdout and stderr; it may be asked for before the start."""

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    REPEATABLE: ClassVar[bool] = True
    container: str
    stream: bool = True
    logs: bool = False
    stdout: bool = True
    stderr: bool = True


class NoteDetach(Job[None], frozen=True, tag="detach"):
    """Tell that a client has detached by its keys: the event ``detach``.

    Not repeatable: an event that comes twice says what did not happen.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    container: str


class ContainerLogs(Job[LogStream], frozen=True, tag="logs"):
    """Read a container's output. ``since``/``until``: nanoseconds since the epoch, 0 for none; ``tail`` -1 for all.

    Errors: InvalidArgument (neither stream), NotImplementedByUs (log driver cannot be read).
    """

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    REPEATABLE: ClassVar[bool] = True
    container: str
    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    timestamps: bool = False
    details: bool = False
    tail: int = -1
    since: int = 0
    until: int = 0


class InspectContainer(Job[ContainerInspect], frozen=True, tag="container_inspect"):
    """Tell all that there is to know of a container. ``size``: measure its layers too."""

    ARGS: ClassVar[tuple[str, ...]] = ("container",)
    REPEATABLE: ClassVar[bool] = True
    container: str
    size: bool = False


class ListContainers(Job[list[ContainerSummary]], frozen=True, tag="containers"):
    """List containers, newest first; only the running ones unless ``all``. ``limit`` 0 for no limit.

    ``size``: measure their layers too, which takes a while.
    """

    REPEATABLE: ClassVar[bool] = True
    all: bool = False
    limit: int = 0
    size: bool = False
    filters: Filters = field(default_factory=dict)


class Pruned(Record):
    containers_deleted: list[str] | None = None
    space_reclaimed: int = 0


class PruneContainers(Job[Pruned], frozen=True, tag="containers_prune"):
    """Remove the containers that do not run, and are chosen by the filters.

    Not repeatable: what the first asking removed, a second one could not tell of.
    """

    filters: Filters = field(default_factory=dict)
