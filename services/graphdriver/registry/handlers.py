"""Job ↔ operation, for registries."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from services.graphdriver.archive import MAX_LAYERS
from services.graphdriver.progress import tell
from services.graphdriver.registry.answers import Refused
from services.graphdriver.registry.inspect import inspect_distribution
from services.graphdriver.registry.login import login
from services.graphdriver.registry.pull import Puller, mismatch
from services.graphdriver.registry.push import Pusher
from services.graphdriver.registry.references import Reference
from services.graphdriver.registry.search import search
from services.graphdriver.sweeping import swept
from shared.bus.handlers import Handlers
from shared.protocol import (
    Authenticate,
    AuthStatus,
    CheckTrustKey,
    DistributionInspect,
    DockyardError,
    InspectDistribution,
    InvalidArgument,
    ListPushable,
    NotFound,
    NotImplementedByUs,
    PullImage,
    PushImage,
    SearchImages,
    SearchResult,
    UpdateTrustBase,
)
from shared.runtime.platforms import normal, parse_platform
from shared.runtime.reasons import reason

if TYPE_CHECKING:
    from services.graphdriver.handlers import GraphDriver

__all__ = ["jobs"]

jobs: Handlers[GraphDriver] = Handlers()
T = TypeVar("T")


def _told(what: str, act: Callable[[], T]) -> T:
    try:
        return act()
    except Refused as refused:
        raise refused.error() from refused
    except OSError as error:
        raise DockyardError(f"{what}: {reason(error)}") from error


@jobs.handles(PullImage)
def pull(driver: GraphDriver, job: PullImage) -> None:
    reference = Reference.parse(job.image, job.tag)
    config = driver.config
    puller = Puller(
        driver.blobs, driver.layers, driver.downloads, driver.bus, config.max_concurrent_downloads or MAX_LAYERS
    )
    with swept(driver, "pull"), driver.registries.session(reference.domain, job.auth) as session:
        _told("pull", lambda: puller.pull(session, reference, job.platform))


@jobs.handles(PushImage)
def push(driver: GraphDriver, job: PushImage) -> None:
    reference = Reference.parse(job.image, job.tag)
    if reference.digest:
        raise InvalidArgument("cannot push a digest reference")
    tell(f"The push refers to repository [{reference.name}]")  # from here on errors are told in the stream
    images = driver.bus.call(ListPushable(domain=reference.domain, path=reference.path, tag=reference.tag))
    if job.platform:
        for pushed in images:
            found = normal(pushed.image.os, pushed.image.architecture, pushed.image.variant)
            if why := mismatch(reference.with_tag(pushed.tag), parse_platform(job.platform), found):
                raise NotFound(why)
    pusher = Pusher(driver.blobs, driver.temporary, driver.bus, driver.config.max_concurrent_uploads or MAX_LAYERS)
    with driver.registries.session(reference.domain, job.auth, push=True) as session:
        _told("push", lambda: pusher.push(session, reference, images))


@jobs.handles(InspectDistribution)
def inspect(driver: GraphDriver, job: InspectDistribution) -> DistributionInspect:
    reference = Reference.parse(job.image)
    reference = reference if reference.wanted else reference.with_tag("latest")
    with driver.registries.session(reference.domain, job.auth) as session:
        return inspect_distribution(session, reference)


@jobs.handles(SearchImages)
def find(driver: GraphDriver, job: SearchImages) -> list[SearchResult]:
    return search(driver.registries, driver.config.search_index, job)


@jobs.handles(Authenticate)
def authenticate(driver: GraphDriver, job: Authenticate) -> AuthStatus:
    return login(driver.registries, job.auth)


@jobs.handles(CheckTrustKey)
def check_trust_key(driver: GraphDriver, job: CheckTrustKey) -> str:
    raise NotImplementedByUs("the trust graph of 2014 is no more: images are verified by their digests")


@jobs.handles(UpdateTrustBase)
def update_trust_base(driver: GraphDriver, job: UpdateTrustBase) -> None:
    raise NotImplementedByUs("the trust graph of 2014 is no more: images are verified by their digests")
