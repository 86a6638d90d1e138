"""Images made here: one new layer on top of another image's, or of nothing, and a config that says so.

A layer is written once into tmp/, packed with gzip while both its digests are taken, and becomes a blob; from that
blob it is unpacked, as every layer is. The engine is told last. Until then nothing but `Blobs.hold` keeps it, so that
whatever is left of an image that was not completed is removed by the next collection.
"""

from __future__ import annotations

import hashlib
import io
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import msgspec
from isal.igzip import IGzipFile

from services.graphdriver.blobs import Blobs, digest_of
from services.graphdriver.layers import Layers
from services.graphdriver.load import PLAIN, chain_ids, image_record
from services.graphdriver.unpack import MAX_UNPACKED
from shared.bus.bus import Bus
from shared.protocol import ContainerConfig, Descriptor, Image, InvalidArgument, NewImage, NotFound, SetImage
from shared.runtime.compression import ERRORS, decompressed

__all__ = ["Fill", "LayerFile", "Maker"]

COMPRESSION_LEVEL = 2  # of ISA-L, 0 to 3


class LayerFile:
    """Where a layer's tar is written. Errors: OSError, InvalidArgument (it is too large)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._diff_id, self._size = hashlib.sha256(), 0
        self._packed = _Hashing(path.open("xb"))
        self._gzip: IO[bytes] = _Gzip("", "wb", COMPRESSION_LEVEL, cast("IO[bytes]", self._packed), mtime=0)

    def write(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_UNPACKED:
            raise InvalidArgument(f"the layer is larger than {MAX_UNPACKED} bytes")
        self._diff_id.update(data)
        self._gzip.write(data)

    def close(self) -> None:
        self._gzip.close()
        self._packed.file.close()

    @property
    def diff_id(self) -> str:
        return f"sha256:{self._diff_id.hexdigest()}"

    @property
    def descriptor(self) -> Descriptor:
        digest = f"sha256:{self._packed.hasher.hexdigest()}"
        return Descriptor(media_type=f"{PLAIN}+gzip", digest=digest, size=self.path.stat().st_size)


_Gzip = cast("Callable[..., IO[bytes]]", IGzipFile)  # it has no annotations


class _Hashing:
    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.hasher = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.hasher.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


Fill = Callable[[LayerFile], bool]  # writes a layer's tar; False if there is nothing in it


@dataclass(frozen=True)
class Maker:
    blobs: Blobs
    layers: Layers
    bus: Bus
    temporary: Path

    def make(self, asked: NewImage, fill: Fill) -> str:
        """Make an image and have it recorded; returns its id. Errors: InvalidArgument, NotFound, OSError."""
        parent = asked.parent
        below = [*(layer.digest for layer in parent.layers), *parent.chain_ids] if parent else []
        directory = self.temporary / secrets.token_hex(8)
        directory.mkdir(mode=0o700)
        try:
            with self.blobs.hold(below):
                self._check_present(parent.chain_ids if parent else [])
                layer = LayerFile(directory / "layer")
                try:
                    filled = fill(layer)
                finally:
                    layer.close()
                return self._record(asked, layer if filled else None)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def configure(self, asked: NewImage, source: Image | None) -> str:
        """Make an image with no layer that was not there: with ``source``, with its next one above the parent's.

        Errors: NotFound, OSError.
        """
        parent, chains = asked.parent, list(asked.parent.chain_ids) if asked.parent else []
        layers, diff_ids = list(parent.layers) if parent else [], list(parent.diff_ids) if parent else []
        sizes, count = list(parent.layer_sizes) if parent else [], len(chains)
        if source is not None:
            chains, layers = source.chain_ids[: count + 1], [*layers, source.layers[count]]
            diff_ids, sizes = source.diff_ids[: count + 1], [*sizes, source.layer_sizes[count]]
        document = _document(asked, diff_ids, empty=source is None)
        config = msgspec.json.encode(document)
        image_id = digest_of(config)
        with self.blobs.hold([image_id, *(layer.digest for layer in layers), *chains]):
            self._check_present(chains)
            self.blobs.add(io.BytesIO(config), image_id)
            self._tell(asked, image_record(image_id, document, len(config), layers, chains, sizes))
        return image_id

    def _check_present(self, chains: list[str]) -> None:
        for chain_id in chains:
            if self.layers.size(chain_id) is None:
                raise NotFound(f"no such layer: {chain_id}")

    def _record(self, asked: NewImage, layer: LayerFile | None) -> str:
        parent = asked.parent
        diff_ids = [*(parent.diff_ids if parent else []), *([layer.diff_id] if layer else [])]
        layers = [*(parent.layers if parent else []), *([layer.descriptor] if layer else [])]
        sizes = list(parent.layer_sizes) if parent else []
        chains = chain_ids(diff_ids)
        document = _document(asked, diff_ids, empty=layer is None)
        config = msgspec.json.encode(document)
        image_id = digest_of(config)
        with self.blobs.hold([image_id, *(descriptor.digest for descriptor in layers), *chains]):
            if layer is not None:
                self.blobs.adopt(layer.path, layers[-1].digest)
                sizes.append(self._unpack(chains, diff_ids[-1], layers[-1]))
            self.blobs.add(io.BytesIO(config), image_id)
            self._tell(asked, image_record(image_id, document, len(config), layers, chains, sizes))
        return image_id

    def _tell(self, asked: NewImage, image: Image) -> None:
        image = msgspec.structs.replace(image, parent=asked.parent.id if asked.parent else "")
        self.blobs.durable.settle()
        self.bus.call(SetImage(image=image, tags=asked.tags, action=asked.action, order=asked.order))

    def _unpack(self, chains: list[str], diff_id: str, blob: Descriptor) -> int:
        with self.blobs.path(blob.digest).open("rb") as file:
            try:
                return self.layers.unpack(chains, diff_id, blob, decompressed(file))
            except ERRORS as error:
                raise InvalidArgument(f"layer {blob.digest} cannot be unpacked: {error}") from error


def _document(asked: NewImage, diff_ids: list[str], *, empty: bool) -> dict[str, Any]:
    """Return the image's config (OCI image-spec 1.1, config), in which nothing stands that is not set."""
    step = {
        "created": asked.created,
        "author": asked.author,
        "created_by": asked.created_by,
        "comment": asked.comment,
        "empty_layer": empty,
    }
    document = {
        "architecture": asked.architecture,
        "variant": asked.variant,
        "os": asked.os,
        "created": asked.created,
        "author": asked.author,
        "comment": asked.comment,
    }
    return {
        **_set(document),
        "config": _settings(asked.config),
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [*(asked.parent.history if asked.parent else []), _set(step)],
    }


def _settings(config: ContainerConfig) -> dict[str, Any]:
    given: dict[str, Any] = msgspec.to_builtins(config)
    return {
        key: _set(value) if isinstance(value, dict) and key == "Healthcheck" else value
        for key, value in _set(given).items()
    }


def _set(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value not in (None, "", 0, False)}
