"""Inspect: what a registry has under a name, without pulling it (API v1.51 /distribution/{name}/json)."""

from __future__ import annotations

from typing import Any

from services.graphdriver.load import image_config
from services.graphdriver.registry.answers import Refused, pull_error
from services.graphdriver.registry.client import Repository
from services.graphdriver.registry.manifests import Index, Manifest, parse
from services.graphdriver.registry.references import Reference
from services.graphdriver.registry.sessions import Session
from shared.protocol import DistributionInspect
from shared.runtime.platforms import Platform

__all__ = ["inspect_distribution"]

WANTS_CREDENTIALS = (401, 403)


def inspect_distribution(session: Session, reference: Reference) -> DistributionInspect:
    """Errors: as those of a pull; Unauthorized, PermissionDenied where a pull says that there may be nothing."""

    def find(repository: Repository) -> DistributionInspect:
        try:
            top = parse(repository.manifest(reference.wanted))
            platforms = _platforms(repository, top)
        except Refused as refused:
            if refused.status in WANTS_CREDENTIALS:
                raise refused.error() from refused
            raise pull_error(refused, reference) from refused
        descriptor = {
            "mediaType": top.media_type,
            "digest": top.document.digest,
            "size": len(top.document.data),
        }
        return DistributionInspect(descriptor=descriptor, platforms=platforms)

    return session.first(reference.path, find)[0]


def _platforms(repository: Repository, top: Manifest | Index) -> list[dict[str, Any]]:
    if isinstance(top, Index):
        return [_show(platform) for _, platform in top.entries if platform is not None]
    config = image_config(repository.read_blob(top.config.digest, top.config.size))
    return [_show(Platform.of(config))]


def _show(platform: Platform) -> dict[str, Any]:
    shown = {"architecture": platform.architecture, "os": platform.os}
    return {**shown, "variant": platform.variant} if platform.variant else shown
