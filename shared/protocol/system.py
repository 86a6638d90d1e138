"""Jobs on the engine itself."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, field

from shared.protocol.job import Data, Job

__all__ = [
    "AcceptConnections",
    "AwaitService",
    "CountSubscribers",
    "Event",
    "EventActor",
    "ListCommands",
    "ListJobs",
    "ListServices",
    "LogEvent",
    "Ping",
    "PastJob",
    "ReadEvents",
    "ServeApi",
    "ServiceStatus",
    "Subscribers",
    "SystemInfo",
    "SystemVersion",
]


class Ping(Job[str], frozen=True, tag="ping"):
    """Answer ``OK``."""

    REPEATABLE: ClassVar[bool] = True


class SystemVersion(Job[dict[str, Any]], frozen=True, tag="version"):
    """API 1.51 SystemVersion."""

    REPEATABLE: ClassVar[bool] = True


class SystemInfo(Job[dict[str, Any]], frozen=True, tag="info"):
    """API 1.51 SystemInfo."""

    REPEATABLE: ClassVar[bool] = True


class ListCommands(Job[list[str]], frozen=True, tag="commands"):
    """List every registered job name, sorted."""

    REPEATABLE: ClassVar[bool] = True


class ServiceStatus(Data, frozen=True):
    service: str
    pid: int
    ready: bool
    names: list[str]
    silent: float  # seconds since it was last heard
    jobs: int = 0  # under way in it


class ListServices(Job[list[ServiceStatus]], frozen=True, tag="services"):
    """List the processes that are registered with the engine."""

    REPEATABLE: ClassVar[bool] = True


class AwaitService(Job[None], frozen=True, tag="await_service"):
    """Return once SERVICE takes jobs; ``engine``: once the boot is complete (restore and reconcile done).

    Errors: Conflict (shortly before the deadline: what holds the boot up).
    """

    ARGS: ClassVar[tuple[str, ...]] = ("service",)
    REPEATABLE: ClassVar[bool] = True
    service: str


class PastJob(Data, frozen=True, omit_defaults=False):
    """A journal entry. Times in seconds since the epoch; ``ended`` and ``status`` None while it runs.

    ``args`` are those of the call string, as ``web, SIGTERM``. ``waiting`` says what a job under way waits for, as
    ``runtime_start at execdriver``. ``deadline``: seconds that were left when asked. Whole, for it is shown as JSON.
    """

    id: str
    parent: str
    name: str
    service: str
    caller: str
    started: float
    ended: float | None
    status: int | None
    message: str
    args: str = ""
    waiting: str = ""
    waiting_since: float | None = None
    uid: int = 0
    peer: str = ""  # for whom the API asked, as `Caller.peer`
    deadline: float | None = None


class ListJobs(Job[list[PastJob]], frozen=True, tag="jobs"):
    """List jobs from the journal, newest first; with ``trace`` that job and all its descendants, oldest first.

    ``name``: only jobs of that name; ``failed``: only those that did; ``since``: only those started since (seconds
    since the epoch).
    """

    ARGS: ClassVar[tuple[str, ...]] = ("trace",)
    REPEATABLE: ClassVar[bool] = True
    limit: Annotated[int, Meta(ge=0, lt=1 << 31)] = 100
    running: bool = False
    trace: str = ""
    name: str = ""  # only jobs of that name
    failed: bool = False  # only those that failed
    since: float = 0.0  # only those that began later (seconds since the epoch)


class EventActor(msgspec.Struct, kw_only=True):
    id: str = field(name="ID")
    attributes: dict[str, str] = field(name="Attributes")


class Event(msgspec.Struct, kw_only=True):
    """API 1.51 EventMessage, with ``seq``: gap-free, never used twice on one root."""

    type: str = field(name="Type")
    action: str = field(name="Action")
    actor: EventActor = field(name="Actor")
    scope: str = "local"
    time: int
    time_nano: int = field(name="timeNano")
    seq: int = 0


class ReadEvents(Job[list[Event]], frozen=True, tag="events"):
    """Read the event journal: events with ``seq`` > ``after``, and time in [since, until].

    Times are in nanoseconds since the epoch, 0 for none.

    With ``wait`` > 0 and nothing to return, wait that many seconds for an event. ``after`` -1: only
    the newest event there is, at once: to learn where to begin. ``readers``: for how many it waits.
    """

    REPEATABLE: ClassVar[bool] = True
    after: int = 0
    since: int = 0
    until: int = 0
    wait: float = 0.0
    limit: int = 1000
    readers: int = 1


class LogEvent(Job[None], frozen=True, tag="log"):
    """Journal and publish an event, as drivers may want to: 2014's ACTION ID FROM, about a container.

    Or about something of another ``type``, with ``attributes`` of its own.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("action", "id", "origin")
    REPEATABLE: ClassVar[bool] = True
    action: str
    id: str
    origin: str = ""  # the image
    type: str = "container"
    attributes: dict[str, str] = field(default_factory=dict)


class Subscribers(Data, frozen=True):
    count: int


class CountSubscribers(Job[Subscribers], frozen=True, tag="subscribers_count"):
    """Count the readers that wait for an event at present."""

    REPEATABLE: ClassVar[bool] = True


class ServeApi(Job[None], frozen=True, tag="serveapi"):
    """engine → apiserver: serve on the sockets the arbiter gave."""

    REPEATABLE: ClassVar[bool] = True
    hosts: list[str] = field(default_factory=list)


class AcceptConnections(Job[None], frozen=True, tag="acceptconnections"):
    """engine → apiserver: the boot is complete; open the activation latch."""

    REPEATABLE: ClassVar[bool] = True
