"""The job that builds an image from a Dockerfile."""

from __future__ import annotations

from msgspec import field

from shared.protocol.job import Job
from shared.protocol.registry import AuthConfig

__all__ = ["BuildImage"]

Labels = dict[str, str]


class BuildImage(Job[None], frozen=True, tag="build"):
    """Build an image; the context is a tar that STATUS stream ``ticket`` says where to send.

    STATUS stream ``progress`` carries Docker's JSON messages. Sizes in bytes, ``cpuperiod`` and ``cpuquota`` in
    microseconds. ``registries``: registry host → credentials. Fields as API 1.51 `POST /build`.

    Not repeatable: the context comes once, and what had come is lost with the process that read it.
    """

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
    shmsize: int = 0
    memory: int = 0
    memswap: int = 0
    cpushares: int = 0
    cpusetcpus: str = ""
    cpuperiod: int = 0
    cpuquota: int = 0
    registries: dict[str, AuthConfig] = field(default_factory=dict)
