"""Archive: what `docker load` is given, read as a list of images: a docker archive or an OCI layout.

| file                        | format                                                        |
|-----------------------------|---------------------------------------------------------------|
| manifest.json               | docker archive: [{Config, RepoTags, Layers}], paths inside    |
| index.json (no manifest.json) | OCI image-spec 1.1 layout: manifests by digest in blobs/      |
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.graphdriver.spool import Spool, Spooled
from shared.protocol import InvalidArgument
from shared.protocol.reference import normalize

__all__ = ["Archive", "LoadedImage"]

MAX_JSON = 4 << 20  # bytes
MAX_NESTING = 4  # indexes in indexes
MAX_LAYERS = 500
PLATFORM_OS = "linux"
INDEX_TYPES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
NAME_KEYS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass
class LoadedImage:
    """``layers``: as they are in the archive, bottom first."""

    config: bytes
    tags: list[str]
    layers: list[Spooled]


class Archive:
    """Errors of all methods: InvalidArgument, saying what is wrong with the archive.

    ``fits`` says of an index's ``platform`` whether it is wanted; without, it is linux on ``architecture``.
    """

    def __init__(self, files: Spool, architecture: str, fits: Callable[[dict[str, Any]], bool] | None = None) -> None:
        self._files, self._architecture, self._fits = files, architecture, fits or self._is_for_us

    def images(self) -> list[LoadedImage]:
        if self._files.find("manifest.json"):
            return [self._from_docker(entry) for entry in _list(self._json("manifest.json"), "manifest.json")]
        if self._files.find("index.json"):
            found = self._from_index(_dict(self._json("index.json"), "index.json"), [], MAX_NESTING)
            if not found and self._fits == self._is_for_us:
                raise InvalidArgument(f"invalid archive: no image for linux/{self._architecture}")
            return found
        raise InvalidArgument("invalid archive: neither manifest.json nor index.json")

    # -- docker archives

    def _from_docker(self, entry: Any) -> LoadedImage:
        entry = _dict(entry, "manifest.json")
        config = self._read(_text(entry.get("Config"), "Config"))
        tags = [_tag(_text(tag, "RepoTags")) for tag in _list(entry.get("RepoTags") or [], "RepoTags")]
        paths = [_text(path, "Layers") for path in _list(entry.get("Layers") or [], "Layers")]
        if len(paths) > MAX_LAYERS:
            raise InvalidArgument(f"invalid archive: more than {MAX_LAYERS} layers")
        return LoadedImage(config, tags, [self._find(path) for path in paths])

    # -- OCI layouts

    def _from_index(self, index: dict[str, Any], names: list[str], depth: int) -> list[LoadedImage]:
        if depth == 0:
            raise InvalidArgument("invalid archive: indexes are nested too deeply")
        found = []
        for entry in _list(index.get("manifests") or [], "manifests"):
            descriptor = _dict(entry, "manifests")
            if not self._is_ours(descriptor):
                continue  # its blobs may be left out
            own = self._names(descriptor) or names
            document = _dict(self._blob_json(descriptor), "manifest")
            if "manifests" in document and "layers" in document:
                raise InvalidArgument("invalid archive: a document is both an index and a manifest")
            if descriptor.get("mediaType") in INDEX_TYPES or "manifests" in document:
                found += self._from_index(document, own, depth - 1)
            else:
                found.append(self._from_manifest(document, own))
        return found

    def _is_ours(self, descriptor: dict[str, Any]) -> bool:
        platform = descriptor.get("platform")
        return not isinstance(platform, dict) or self._fits(platform)

    def _is_for_us(self, platform: dict[str, Any]) -> bool:
        return platform.get("os") == PLATFORM_OS and platform.get("architecture") == self._architecture

    def _names(self, descriptor: dict[str, Any]) -> list[str]:
        annotations = descriptor.get("annotations")
        if not isinstance(annotations, dict):
            return []
        name = next((annotations[key] for key in NAME_KEYS if isinstance(annotations.get(key), str)), None)
        if name is None or not set(":/@") & set(name):
            return []  # a bare tag has no repository to go with
        try:
            return [_tag(name)]
        except InvalidArgument:
            return []  # ref.name may be a bare tag, a free text, or a name by its digest

    def _from_manifest(self, manifest: dict[str, Any], tags: list[str]) -> LoadedImage:
        config = self._blob(_dict(manifest.get("config"), "config"))
        descriptors = [_dict(entry, "layers") for entry in _list(manifest.get("layers"), "layers")]
        if len(descriptors) > MAX_LAYERS:
            raise InvalidArgument(f"invalid archive: more than {MAX_LAYERS} layers")
        digests = [_text(entry.get("digest"), "digest") for entry in descriptors]
        return LoadedImage(config, tags, [self._find_blob(digest) for digest in digests])

    def _blob_json(self, descriptor: dict[str, Any]) -> Any:
        return _parse(self._blob(descriptor), str(descriptor.get("digest")))

    def _blob(self, descriptor: dict[str, Any]) -> bytes:
        return self._content(self._find_blob(_text(descriptor.get("digest"), "digest")))

    def _find_blob(self, digest: str) -> Spooled:
        algorithm, _, value = digest.partition(":")
        found = self._find(f"blobs/{algorithm}/{value}")
        if found.digest != digest:
            raise InvalidArgument(f"invalid archive: blob {digest} does not match its digest")
        return found

    # -- files

    def _json(self, path: str) -> Any:
        return _parse(self._read(path), path)

    def _find(self, path: str) -> Spooled:
        found = self._files.find(path)
        if found is None:
            raise InvalidArgument(f"invalid archive: {path!r} is missing")
        return found

    def _read(self, path: str) -> bytes:
        return self._content(self._find(path))

    def _content(self, file: Spooled) -> bytes:
        if file.size > MAX_JSON:
            raise InvalidArgument(f"invalid archive: {file.name!r} is larger than {MAX_JSON} bytes")
        return file.path.read_bytes()


def _parse(data: bytes, name: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidArgument(f"invalid archive: {name} is not JSON") from None


def _tag(text: str) -> str:
    """Return a complete reference. That an image has a digest at a registry is not an archive's to say."""
    if "@" in text:
        raise InvalidArgument(f'invalid tag "{text}"')
    return normalize(text)


def _dict(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidArgument(f"invalid archive: {name} is not an object")
    return value


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidArgument(f"invalid archive: {name} is not a list")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"invalid archive: {name} is not a string")
    return value
