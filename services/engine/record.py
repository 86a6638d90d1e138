"""ContainerRecord: what the engine remembers of a container, and the state machine it obeys."""

from __future__ import annotations

import enum

import msgspec
from msgspec import field

from shared.protocol import (
    ContainerConfig,
    EndpointSettings,
    Health,
    HostConfig,
    Interface,
    MountPoint,
    joined_container,
)

__all__ = ["ContainerRecord", "Change", "Endpoint", "Status", "next_status"]


VERSION = 1


class Status(enum.StrEnum):
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    EXITED = "exited"
    REMOVING = "removing"


class Change(enum.StrEnum):
    START = "start"
    START_FAILED = "start_failed"
    EXIT = "exit"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    AWAIT_RESTART = "await_restart"
    GIVE_UP_RESTART = "give_up_restart"
    REMOVE = "remove"


TABLE: dict[tuple[Status, Change], Status] = {
    (Status.CREATED, Change.START): Status.RUNNING,
    (Status.CREATED, Change.START_FAILED): Status.CREATED,
    (Status.CREATED, Change.REMOVE): Status.REMOVING,
    (Status.RUNNING, Change.EXIT): Status.EXITED,
    (Status.RUNNING, Change.PAUSE): Status.PAUSED,
    (Status.PAUSED, Change.UNPAUSE): Status.RUNNING,
    (Status.PAUSED, Change.EXIT): Status.EXITED,
    (Status.EXITED, Change.START): Status.RUNNING,
    (Status.EXITED, Change.START_FAILED): Status.EXITED,
    (Status.EXITED, Change.AWAIT_RESTART): Status.RESTARTING,
    (Status.EXITED, Change.REMOVE): Status.REMOVING,
    (Status.RESTARTING, Change.START): Status.RUNNING,
    (Status.RESTARTING, Change.START_FAILED): Status.EXITED,
    (Status.RESTARTING, Change.GIVE_UP_RESTART): Status.EXITED,
    (Status.RESTARTING, Change.REMOVE): Status.REMOVING,
    (Status.REMOVING, Change.REMOVE): Status.REMOVING,
}


def next_status(status: Status, change: Change) -> Status:
    """Return the status after a change; a change that the table lacks is a bug (ValueError)."""
    try:
        return TABLE[status, change]
    except KeyError:
        raise ValueError(f"a container that is {status} cannot {change}") from None


class Endpoint(msgspec.Struct, kw_only=True):
    """A container's place in a network: what was asked for, and what the present start was given."""

    asked: EndpointSettings = field(default_factory=EndpointSettings)
    network: str = ""  # the id of a user-defined one, once it is known
    interface: Interface | None = None
    connected: bool = False  # so said the events

    @property
    def addresses(self) -> list[str]:
        given = (self.interface.address, self.interface.address6) if self.interface else ()
        return [address for address in given if address]


class ContainerRecord(msgspec.Struct, kw_only=True):
    """Times in nanoseconds since the epoch, 0 for never. ``generation`` counts the starts.

    ``config`` is complete (request and image merged); ``requested_image`` what the user typed.
    """

    id: str
    name: str
    created: int
    image: str
    requested_image: str
    args: list[str]
    config: ContainerConfig
    host_config: HostConfig
    endpoints: dict[str, Endpoint] = field(default_factory=dict)  # by the network's name
    status: Status = Status.CREATED
    generation: int = 0
    exited_generation: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    pid: int = 0
    created_by: str = ""  # the id of the job that created it
    build: str = ""  # the id of the build that it is a step of
    attempt: str = ""  # the id of the job that began the last start
    pausing: str = ""  # the id of the job that began to pause it last, or to let it run on
    removed_by: str = ""  # the id of the job that is to be answered when it is gone
    started: int = 0
    finished: int = 0
    restart_count: int = 0  # automatic ones since the last start by hand
    restart_delay: float = 0.0  # seconds before the last automatic restart
    stopped_by_user: bool = False
    held_still: bool = False  # paused by us for a while, not by the user
    unsettled: bool = False  # what the last start took has not all been given back
    interface: Interface | None = None  # its network as a whole: the first interface, with all ports
    health: Health | None = None  # of the last start; None without a health check
    mounts: list[MountPoint] = []
    places: dict[str, str] = {}  # of its root filesystem, as the storage driver names them
    volumes_mounted: bool = False  # so said the events
    remove_volumes: bool = False  # its removal takes the anonymous ones with it
    version: int = 0  # of this shape; 0: one network, in the next two
    endpoint: EndpointSettings | None = None
    connected: bool = False

    def __post_init__(self) -> None:
        """Bring a record of an earlier release to this shape."""
        mode = self.host_config.network_mode
        if self.version < VERSION and not self.endpoints and mode and not joined_container(mode):
            place = Endpoint(asked=self.endpoint or EndpointSettings(), connected=self.connected)
            place.interface = self.interface if self.interface and self.interface.placed else None
            self.endpoints[mode] = place
        self.version, self.endpoint, self.connected = VERSION, None, False

    def note_interfaces(self, interfaces: list[Interface]) -> None:
        """Take over what the netdriver says the container has, eth0 first."""
        given = {interface.network: interface for interface in interfaces if interface.placed}
        for place in self.endpoints.values():
            place.interface = given.get(place.network)
        ports = [port for interface in interfaces for port in interface.ports]
        self.interface = msgspec.structs.replace(interfaces[0], ports=ports) if interfaces else None

    @property
    def addresses(self) -> list[str]:
        """Return its addresses in all its networks, while it has them."""
        return [address for place in self.endpoints.values() for address in place.addresses]

    @property
    def images(self) -> list[str]:
        """Return the ids of the images that it needs: what it is made from, if anything, and those that it mounts."""
        mounted = [f"sha256:{point.name}" for point in self.mounts if point.type == "image"]
        return [self.image, *mounted] if self.image else mounted

    def forget_interfaces(self) -> None:
        self.interface = None
        for place in self.endpoints.values():
            place.interface = None

    @property
    def running(self) -> bool:
        """Say whether it has a process, be it paused."""
        return self.status in (Status.RUNNING, Status.PAUSED)

    @property
    def paused(self) -> bool:
        return self.status is Status.PAUSED

    def change(self, change: Change) -> None:
        self.status = next_status(self.status, change)
