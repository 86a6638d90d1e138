"""The graphdriver's jobs with registries."""

from __future__ import annotations

from services.graphdriver.handlers import GraphDriver
from shared.bus.handlers import Handlers
from shared.protocol import (
    Authenticate,
    AuthStatus,
    CheckTrustKey,
    NotImplementedByUs,
    PullImage,
    PushImage,
    SearchImages,
    SearchResult,
    UpdateTrustBase,
)

__all__ = ["jobs"]

jobs: Handlers[GraphDriver] = Handlers()


@jobs.handles(PullImage)
def pull(driver: GraphDriver, job: PullImage) -> None:
    raise NotImplementedByUs(f"cannot pull {job.image!r}: registries are not implemented; use 'docker load'")


@jobs.handles(PushImage)
def push(driver: GraphDriver, job: PushImage) -> None:
    raise NotImplementedByUs(f"cannot push {job.image!r}: registries are not implemented; use 'docker save'")


@jobs.handles(SearchImages)
def search(driver: GraphDriver, job: SearchImages) -> list[SearchResult]:
    raise NotImplementedByUs(f"cannot search for {job.term!r}: registries are not implemented")


@jobs.handles(Authenticate)
def authenticate(driver: GraphDriver, job: Authenticate) -> AuthStatus:
    raise NotImplementedByUs("cannot log in: registries are not implemented")


@jobs.handles(CheckTrustKey)
def check_trust_key(driver: GraphDriver, job: CheckTrustKey) -> str:
    raise NotImplementedByUs("the trust graph of 2014 is no more: images are verified by their digests")


@jobs.handles(UpdateTrustBase)
def update_trust_base(driver: GraphDriver, job: UpdateTrustBase) -> None:
    raise NotImplementedByUs("the trust graph of 2014 is no more: images are verified by their digests")
