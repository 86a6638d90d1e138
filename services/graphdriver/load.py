"""Load: from an archive on disk to blobs, layers and an image record."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from services.graphdriver.abreast import abreast
from services.graphdriver.archive import Archive, LoadedImage
from services.graphdriver.blobs import Blobs, digest_of, is_digest
from services.graphdriver.layers import Layers
from services.graphdriver.progress import Watched, progress
from services.graphdriver.spool import Spool, Spooled
from shared.bus.bus import Bus
from shared.bus.context import check_cancelled, emit
from shared.protocol import ContainerConfig, Descriptor, GetImage, Image, InvalidArgument, SetImage
from shared.protocol.reference import familiar
from shared.runtime.compression import ERRORS, decompressed, unpacked
from shared.runtime.machine import architecture
from shared.runtime.platforms import Platform

__all__ = ["PLAIN", "Loader", "chain_ids", "image_config", "image_record", "load_archive"]

PLAIN = "application/vnd.oci.image.layer.v1.tar"
MEDIA_TYPES = {b"\x1f\x8b": f"{PLAIN}+gzip", b"\x28\xb5": f"{PLAIN}+zstd"}


@dataclass(frozen=True)
class Loader:
    """Where images go; ``quiet``: without the progress of layers; ``platform``: what alone is loaded."""

    blobs: Blobs
    layers: Layers
    bus: Bus
    quiet: bool = True
    platform: Platform | None = None

    def fits(self, config: dict[str, Any]) -> bool:
        """Say whether what an image's config, or an index, tells of a platform is what is wanted."""
        return self.platform is None or self.platform.rank(self.platform.of(config)) is not None


def load_archive(source: IO[bytes], directory: Path, to: Loader) -> None:
    """Load every image of an archive that comes from ``source``; its files are kept in ``directory`` meanwhile.

    Errors: InvalidArgument. What was loaded before the error stays on disk unrecorded, and is collected.
    """
    spool = Spool(directory)
    spool.take(unpacked(source))
    images = Archive(spool, architecture(), to.fits if to.platform else None).images()
    wanted = [(image, config) for image in images if to.fits(config := image_config(image.config))]
    if to.platform and not wanted:
        raise InvalidArgument(f"invalid archive: no image for {to.platform}")
    for image, config in wanted:
        check_cancelled()
        _load_image(image, config, to)


def _load_image(loaded: LoadedImage, config: dict[str, Any], to: Loader) -> None:
    diff_ids = config["rootfs"]["diff_ids"]
    if len(diff_ids) != len(loaded.layers):
        raise InvalidArgument(f"invalid archive: {len(diff_ids)} diff_ids, {len(loaded.layers)} layers")
    chains, image_id = chain_ids(diff_ids), digest_of(loaded.config)
    with to.blobs.hold([image_id, *(layer.digest for layer in loaded.layers), *chains]):

        def unpack(index: int, check: Callable[[], None]) -> int:
            return _unpack(loaded.layers[index], descriptors[index], chains[: index + 1], diff_ids[index], to, check)

        descriptors = [_descriptor(layer) for layer in loaded.layers]
        sizes = abreast(len(descriptors), unpack, to.layers.at_a_time)
        to.blobs.add(io.BytesIO(loaded.config), image_id)
        image = image_record(image_id, config, len(loaded.config), descriptors, chains, sizes)
        to.blobs.durable.settle()
        before = {tag: to.bus.call(GetImage(image=tag)).get("Id", image_id) for tag in loaded.tags}
        to.bus.call(SetImage(image=image, tags=loaded.tags))
    for tag, old in before.items():
        if old != image_id:
            _say(f"The image {familiar(tag)} already exists, renaming the old one with ID {old} to empty string\n")
        _say(f"Loaded image: {familiar(tag)}\n")
    if not loaded.tags:
        _say(f"Loaded image ID: {image_id}\n")


def _unpack(
    layer: Spooled, descriptor: Descriptor, chains: list[str], diff_id: str, to: Loader, check: Callable[[], None]
) -> int:
    """``chains``: its own, and those below. Returns the bytes of its files."""
    check()
    to.blobs.link(layer.path, layer.digest)
    with layer.path.open("rb") as blob:
        watched = blob if to.quiet else Watched(blob, descriptor.size, progress(diff_id, "Loading layer"))
        plain = decompressed(cast("IO[bytes]", watched))
        try:
            return to.layers.unpack(chains, diff_id, descriptor, plain, check)
        except ERRORS as error:
            raise InvalidArgument(f"layer {layer.digest} cannot be unpacked: {error}") from error


def _say(text: str) -> None:
    emit(json.dumps({"stream": text}), stream="progress")


def image_config(data: bytes) -> dict[str, Any]:
    """Parse an image config and check what is used of it (OCI image-spec 1.1, config)."""
    try:
        config = msgspec.json.decode(data)  # unlike json, it takes nothing that it could not write again
        diff_ids = config["rootfs"]["diff_ids"]
        if not isinstance(diff_ids, list) or not all(map(is_digest, diff_ids)):
            raise TypeError("diff_ids is not a list of sha256 digests")
        if not isinstance(config.get("config") or {}, dict):
            raise TypeError("config is not an object")
        for name in ("architecture", "os", "created", "author", "comment", "variant"):
            if not isinstance(config.get(name, ""), (str, type(None))):
                raise TypeError(f"{name} is not a string")
        history = config.get("history") or []
        if not isinstance(history, list) or not all(isinstance(entry, dict) for entry in history):
            raise TypeError("history is not a list of objects")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidArgument(f"invalid image config: {error}") from None
    if config.get("os") not in (None, "", "linux"):
        raise InvalidArgument(f"image operating system {config['os']!r} cannot be used on this platform")
    return config  # type: ignore[no-any-return]


def image_record(
    image_id: str, config: dict[str, Any], size: int, layers: list[Descriptor], chains: list[str], sizes: list[int]
) -> Image:
    given = {key: value for key, value in (config.get("config") or {}).items() if value is not None}
    try:
        settings = msgspec.convert(given, ContainerConfig)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"invalid image config: {error}") from None
    return Image(
        id=image_id,
        architecture=config.get("architecture") or "",
        os=config.get("os") or "linux",
        created=config.get("created") or "",
        author=config.get("author") or "",
        comment=config.get("comment") or "",
        variant=config.get("variant") or "",
        config=settings,
        config_size=size,
        layers=layers,
        diff_ids=config["rootfs"]["diff_ids"],
        chain_ids=chains,
        layer_sizes=sizes,
        history=config.get("history") or [],
    )


def _descriptor(layer: Spooled) -> Descriptor:
    with layer.path.open("rb") as file:
        media_type = MEDIA_TYPES.get(file.read(2), PLAIN)
    return Descriptor(media_type=media_type, digest=layer.digest, size=layer.size)


def chain_ids(diff_ids: list[str]) -> list[str]:
    """Return the ChainID of each layer (OCI image-spec 1.1, config §layer ChainID)."""
    chains: list[str] = []
    for diff_id in diff_ids:
        chains.append(digest_of(f"{chains[-1]} {diff_id}".encode()) if chains else diff_id)
    return chains
