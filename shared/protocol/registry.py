"""Jobs that speak to registries; the graphdriver holds their handlers. Progress goes out as STATUS ``progress``."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from msgspec import field

from shared.protocol.images import Image
from shared.protocol.job import Data, Job, Record

__all__ = [
    "AuthConfig",
    "AuthStatus",
    "Authenticate",
    "CheckTrustKey",
    "DistributionInspect",
    "InspectDistribution",
    "ListPushable",
    "PullImage",
    "PushImage",
    "PushableImage",
    "SearchImages",
    "SearchResult",
    "UpdateTrustBase",
]

Filters = dict[str, list[str]]


class AuthConfig(msgspec.Struct, kw_only=True, omit_defaults=True):
    """API 1.51 AuthConfig, as the X-Registry-Auth header carries it; all empty: anonymous."""

    username: str = ""
    password: str = ""
    email: str = ""
    serveraddress: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


class AuthStatus(Record):
    status: str
    identity_token: str = ""


class Authenticate(Job[AuthStatus], frozen=True, tag="auth"):
    """Check credentials with their registry. Errors: Unauthorized, `DockyardError` (the registry does not answer)."""

    REPEATABLE: ClassVar[bool] = True
    auth: AuthConfig = field(default_factory=AuthConfig)


class SearchResult(msgspec.Struct, kw_only=True):
    """An item of API 1.51 ImageSearch."""

    name: str
    description: str = ""
    star_count: int = 0
    is_official: bool = False
    is_automated: bool = False


class SearchImages(Job[list[SearchResult]], frozen=True, tag="search"):
    """Search a registry's index for images, most stars first. ``term``: [host[:port]/]words. ``limit`` 0: 25.

    Errors: InvalidArgument (limit, filters), `DockyardError` (the index does not answer).
    """

    ARGS: ClassVar[tuple[str, ...]] = ("term",)
    REPEATABLE: ClassVar[bool] = True
    term: str
    limit: int = 0
    filters: Filters = field(default_factory=dict)
    auth: AuthConfig = field(default_factory=AuthConfig)


class PullImage(Job[None], frozen=True, tag="pull"):
    """Pull an image. ``tag``: a tag or a digest; empty: all tags of the repository.

    Errors: NotFound, Unauthorized, InvalidArgument (reference, platform), Unavailable.

    Not repeatable: its progress would be told twice. Pulled again, it fetches what is not there yet.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("image", "tag")
    image: str
    tag: str = ""
    platform: str = ""
    auth: AuthConfig = field(default_factory=AuthConfig)


class PushImage(Job[None], frozen=True, tag="push"):
    """Push a repository's tag, or with an empty ``tag`` all of its tags. Errors: as `PullImage`.

    Not repeatable: its progress would be told twice. Pushed again, it sends what is not there yet.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("image",)
    image: str
    tag: str = ""
    platform: str = ""
    auth: AuthConfig = field(default_factory=AuthConfig)


class PushableImage(Data, frozen=True):
    """``mounts``: by the digest of a layer, other repositories of the same registry that are known to have it."""

    image: Image
    tag: str
    mounts: dict[str, list[str]]


class ListPushable(Job[list[PushableImage]], frozen=True, tag="image_pushable"):
    """graphdriver → engine: what a push of a repository's tag, or with an empty ``tag`` of all its tags, has to send.

    ``domain`` and ``path`` are the parts of the complete name, as docker.io and library/busybox. Errors: NotFound.
    """

    REPEATABLE: ClassVar[bool] = True
    domain: str
    path: str
    tag: str = ""


class DistributionInspect(Record):
    """API 1.51 DistributionInspect: an OCI descriptor, and the platforms that there are."""

    descriptor: dict[str, Any]
    platforms: list[dict[str, Any]]


class InspectDistribution(Job[DistributionInspect], frozen=True, tag="distribution_inspect"):
    """Ask a registry what it has under a name.

    Errors: NotFound, Unauthorized, InvalidArgument, `DockyardError` (the registry does not answer).
    """

    ARGS: ClassVar[tuple[str, ...]] = ("image",)
    REPEATABLE: ClassVar[bool] = True
    image: str
    auth: AuthConfig = field(default_factory=AuthConfig)


class CheckTrustKey(Job[str], frozen=True, tag="trust_key_check"):
    """2014's check of a key against a namespace. Errors: NotImplementedByUs, always.

    Not repeatable: it never works.
    """

    ARGS: ClassVar[tuple[str, ...]] = ("namespace",)
    namespace: str
    public_key: str = ""
    permission: int = 0


class UpdateTrustBase(Job[None], frozen=True, tag="trust_update_base"):
    """2014's refresh of the trust graph. Errors: NotImplementedByUs, always.

    Not repeatable: it never works.
    """
