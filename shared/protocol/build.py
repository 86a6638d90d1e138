"""Jobs that build images from Dockerfiles: what a user asks for, and what the builder asks of the engine."""

from __future__ import annotations

from typing import ClassVar

from msgspec import field

from shared.protocol.archive import NewImage
from shared.protocol.config import ContainerConfig, Ulimit
from shared.protocol.images import Image
from shared.protocol.job import Job, Record
from shared.protocol.registry import AuthConfig

__all__ = [
    "BuildCache",
    "BuildCachePruned",
    "BuildImage",
    "CommitStep",
    "ConfigureImage",
    "EndBuild",
    "FindCached",
    "ListBuildCache",
    "ListBuilds",
    "PruneBuildCache",
]

Labels = dict[str, str]
Filters = dict[str, list[str]]


class BuildImage(Job[str], frozen=True, tag="build"):
    """Build an image and return its id; the context is a tar that STATUS stream ``ticket`` says where to send.

    With a ``remote`` (of git, a tar or a Dockerfile by HTTP) nothing is to be sent. STATUS stream ``output`` is a
    ticket from which Docker's JSON messages come, one a line. Sizes in bytes, ``cpuperiod`` and ``cpuquota`` in
    microseconds.
    ``registries``: registry host → credentials. ``secrets``: for `RUN --mount=type=secret`, id → base64 of its content.
    Fields else as API 1.51 `POST /build`. Errors: InvalidArgument, NotFound, NotImplementedByUs, `DockyardError` (a
    step failed).

    It goes on when the engine is restarted; with the builder it is lost, and is not begun anew when asked again.
    """

    REPEATABLE: ClassVar[bool] = True

    dockerfile: str = "Dockerfile"
    tags: list[str] = field(default_factory=list)
    remote: str = ""
    quiet: bool = False
    nocache: bool = False
    pull: bool = False
    remove: bool = True
    force_remove: bool = False
    buildargs: dict[str, str | None] = field(default_factory=dict)
    labels: Labels = field(default_factory=dict)
    cachefrom: list[str] = field(default_factory=list)
    extrahosts: list[str] = field(default_factory=list)
    networkmode: str = ""
    target: str = ""
    platform: str = ""
    squash: bool = False
    shmsize: int = 0
    memory: int = 0
    memswap: int = 0
    cpushares: int = 0
    cpusetcpus: str = ""
    cpusetmems: str = ""
    cpuperiod: int = 0
    cpuquota: int = 0
    cgroupparent: str = ""
    isolation: str = ""
    ulimits: list[Ulimit] = field(default_factory=list)
    securityopt: list[str] = field(default_factory=list)
    registries: dict[str, AuthConfig] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)


class ListBuilds(Job[list[str]], frozen=True, tag="builds"):
    """engine → builder: the ids of the builds that are under way."""

    REPEATABLE: ClassVar[bool] = True


class BuildCache(Record):
    """API 1.51 BuildCache: the directory of a `RUN --mount=type=cache`. Times are RFC 3339; ``size`` in bytes."""

    id: str = field(name="ID")
    type: str
    description: str
    in_use: bool
    shared: bool
    size: int
    created_at: str
    last_used_at: str
    usage_count: int


class ListBuildCache(Job[list[BuildCache]], frozen=True, tag="build_cache"):
    """List the directories that builds have mounted as caches, and measure them."""

    REPEATABLE: ClassVar[bool] = True


class BuildCachePruned(Record):
    caches_deleted: list[str]
    space_reclaimed: int


class PruneBuildCache(Job[BuildCachePruned], frozen=True, tag="build_cache_prune"):
    """Remove the directories that builds have mounted as caches, and that none has at present.

    ``keep_storage``: bytes that may stay, those used last. Filters: until, id, unused-for. Errors: InvalidArgument.

    Not repeatable: what the first asking removed, a second one could not tell of.
    """

    keep_storage: int = 0
    filters: Filters = field(default_factory=dict)


# -- builder → engine


class FindCached(Job[str], frozen=True, tag="build_cached"):
    """Return the id of the image that a step would make of ``parent`` (an id, or nothing), if it was made before.

    ``created_by`` says what the step does, ``config`` what comes of it; ``platform`` as in `CommitStep`. With
    ``cachefrom`` (references; those that are not there count for nothing) only what one of these images was made of
    counts.
    """

    REPEATABLE: ClassVar[bool] = True
    parent: str
    created_by: str
    config: ContainerConfig
    cachefrom: list[str] = field(default_factory=list)
    platform: str = ""


class CommitStep(Job[str], frozen=True, tag="build_commit"):
    """Record the image that a step has made; returns its id.

    Its layer is what changed in ``container``; without one it is ``parent`` (an id, or nothing) with another
    ``config``.
    ``mounted``: paths in the container that were made to mount something on. ``platform``: what an image is for that
    is made of nothing, as ``linux/arm64``; this machine's if it is empty. Errors: NotFound, InvalidArgument.
    """

    REPEATABLE: ClassVar[bool] = True
    parent: str
    config: ContainerConfig
    created_by: str
    author: str = ""
    container: str = ""
    mounted: list[str] = field(default_factory=list)
    platform: str = ""


class EndBuild(Job[None], frozen=True, tag="build_end"):
    """Remove the containers that were made for a build; those in ``keep`` become ordinary ones."""

    REPEATABLE: ClassVar[bool] = True
    build: str
    keep: list[str] = field(default_factory=list)


# -- engine → graphdriver


class ConfigureImage(Job[str], frozen=True, tag="graph_configure"):
    """As `CommitLayer`, but with no new layer: what is new is the config, and with ``source`` its next layer."""

    REPEATABLE: ClassVar[bool] = True
    image: NewImage
    source: Image | None = None
