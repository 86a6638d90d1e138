"""Manifests and indexes, read with suspicion (OCI image-spec 1.1; Docker image manifest version 2, schema 2)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from services.graphdriver.archive import MAX_JSON, MAX_LAYERS, MAX_NESTING
from services.graphdriver.blobs import is_digest
from services.graphdriver.registry.client import Document
from services.graphdriver.unpack import MAX_UNPACKED
from shared.protocol import Descriptor, InvalidArgument, NotFound
from shared.runtime.platforms import Platform

__all__ = ["DOCKER_MANIFEST", "OCI_MANIFEST", "Index", "Manifest", "as_docker", "as_oci", "choose", "parse"]

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
CONFIGS = ("application/vnd.docker.container.image.v1+json", "application/vnd.oci.image.config.v1+json")
DOCKER_LAYER, OCI_LAYER = "application/vnd.docker.image.rootfs.diff.tar", "application/vnd.oci.image.layer.v1.tar"
OCI_NONDISTRIBUTABLE = "application/vnd.oci.image.layer.nondistributable.v1.tar"
LAYERS = (
    DOCKER_LAYER, f"{DOCKER_LAYER}.gzip", f"{DOCKER_LAYER}.zstd",
    *(f"{kind}{packed}" for kind in (OCI_LAYER, OCI_NONDISTRIBUTABLE) for packed in ("", "+gzip", "+zstd")),
)  # fmt: skip
MAX_ENTRIES = 1000  # of an index


@dataclass(frozen=True)
class Manifest:
    document: Document
    media_type: str
    config: Descriptor
    layers: list[Descriptor]


@dataclass(frozen=True)
class Index:
    """``entries``: each manifest with its platform, None where the entry does not say."""

    document: Document
    media_type: str
    entries: list[tuple[Descriptor, Platform | None]]


def parse(document: Document) -> Manifest | Index:
    """Errors: InvalidArgument, saying what is wrong or not supported."""
    content = _object(_decode(document.data), "manifest")
    media_type = _media_type(document, content)
    if "manifests" in content and "layers" in content:
        raise InvalidArgument("invalid manifest: a document is both an index and a manifest")
    if media_type in (DOCKER_INDEX, OCI_INDEX):
        return Index(document, media_type, _entries(content))
    return _manifest(document, media_type, content)


def _media_type(document: Document, content: dict[str, Any]) -> str:
    inner = content.get("mediaType", "")
    media_type = inner or document.media_type
    if media_type in SCHEMA_1 or content.get("schemaVersion") == 1:
        raise InvalidArgument("unsupported manifest: schema version 1 is no more used; the image must be pushed again")
    if content.get("schemaVersion") != 2:
        raise InvalidArgument("invalid manifest: schemaVersion is not 2")
    if media_type not in (DOCKER_MANIFEST, OCI_MANIFEST, DOCKER_INDEX, OCI_INDEX):
        raise InvalidArgument(f"unsupported media type of a manifest: {str(media_type)[:100]!r}")
    if document.media_type and document.media_type != media_type:
        raise InvalidArgument(f"invalid manifest: it is {inner!r} and was sent as {document.media_type[:100]!r}")
    return str(media_type)


def _entries(content: dict[str, Any]) -> list[tuple[Descriptor, Platform | None]]:
    given = content.get("manifests")
    if not isinstance(given, list) or len(given) > MAX_ENTRIES:
        raise InvalidArgument(f"invalid index: manifests is not a list of at most {MAX_ENTRIES} entries")
    found: list[tuple[Descriptor, Platform | None]] = []
    for item in given:
        entry = _object(item, "manifests")
        platform = entry.get("platform")
        found.append((_descriptor(entry, MAX_JSON), Platform.of(platform) if isinstance(platform, dict) else None))
    return found


def _manifest(document: Document, media_type: str, content: dict[str, Any]) -> Manifest:
    config = _descriptor(_object(content.get("config"), "config"), MAX_JSON)
    if config.media_type not in CONFIGS:
        raise InvalidArgument(f"not a container image: its config is of media type {config.media_type[:100]!r}")
    given = content.get("layers")
    if not isinstance(given, list) or len(given) > MAX_LAYERS:
        raise InvalidArgument(f"invalid manifest: layers is not a list of at most {MAX_LAYERS} layers")
    layers = [_descriptor(_object(entry, "layers"), MAX_UNPACKED) for entry in given]
    for layer in layers:
        if layer.media_type not in LAYERS:
            raise InvalidArgument(f"unsupported media type of a layer: {layer.media_type[:100]!r}")
    return Manifest(document, media_type, config, layers)


def _descriptor(entry: dict[str, Any], limit: int) -> Descriptor:
    digest, size, media_type = entry.get("digest"), entry.get("size"), entry.get("mediaType")
    if not is_digest(digest):
        raise InvalidArgument(f"invalid manifest: {str(digest)[:100]!r} is not a sha256 digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= limit:
        raise InvalidArgument(
            f"invalid manifest: the size of {digest} is not from 0 to {limit} bytes: {str(size)[:30]}"
        )
    if not isinstance(media_type, str):
        raise InvalidArgument(f"invalid manifest: {digest} has no media type")
    return Descriptor(media_type=media_type, digest=str(digest), size=size)


def _decode(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidArgument("invalid manifest: it is not JSON") from None


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidArgument(f"invalid manifest: {name} is not an object")
    return value


def as_oci(layer: Descriptor) -> Descriptor:
    """Return a layer with the media type that the OCI image specification has for it."""
    packed = layer.media_type.removeprefix(DOCKER_LAYER)
    if packed == layer.media_type:
        return layer
    return msgspec.structs.replace(layer, media_type=OCI_LAYER + packed.replace(".", "+"))


def as_docker(layer: Descriptor) -> Descriptor:
    """Return a layer that is plain or packed with gzip with the media type that Docker has for it."""
    return msgspec.structs.replace(layer, media_type=DOCKER_LAYER + (".gzip" if "gzip" in layer.media_type else ""))


def choose(top: Manifest | Index, wanted: Platform, fetch: Callable[[str], Document]) -> Manifest:
    """Go down from an index to the manifest for a platform; what is fetched must be what the digest above says.

    Errors: NotFound (none for the platform), InvalidArgument (indexes nested too deeply), those of ``fetch``.
    """
    for _ in range(MAX_NESTING):
        if isinstance(top, Manifest):
            return top
        top = parse(fetch(_best(top, wanted).digest))
    if isinstance(top, Manifest):
        return top
    raise InvalidArgument("invalid index: indexes are nested too deeply")


def _best(index: Index, wanted: Platform) -> Descriptor:
    is_alone = len(index.entries) == 1
    ranked = [(_rank(descriptor, platform, wanted, is_alone), descriptor) for descriptor, platform in index.entries]
    fitting = [(rank, descriptor) for rank, descriptor in ranked if rank is not None]
    if not fitting:
        raise NotFound(f"no matching manifest for {wanted} in the manifest list entries")
    return min(fitting, key=lambda one: one[0])[1]


def _rank(descriptor: Descriptor, platform: Platform | None, wanted: Platform, is_alone: bool) -> int | None:
    """Rank an entry; one that names no platform is an index below, or the only one."""
    if platform is not None:
        return wanted.rank(platform)
    return 0 if is_alone or descriptor.media_type in (DOCKER_INDEX, OCI_INDEX) else None
