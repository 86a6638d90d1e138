"""Pull: from a registry's manifest to blobs, layers and an image record. What is told on the way: wire-details §6."""

from __future__ import annotations

import contextvars
import io
import queue
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, cast

import msgspec

from services.graphdriver.abreast import abreast
from services.graphdriver.blobs import Blobs
from services.graphdriver.layers import Layers
from services.graphdriver.load import chain_ids, image_config, image_record
from services.graphdriver.progress import Watched, progress, tell
from services.graphdriver.registry.answers import Refused, pull_error
from services.graphdriver.registry.client import Repository
from services.graphdriver.registry.downloads import DONE, DOWNLOADING, Downloads, Told
from services.graphdriver.registry.manifests import Manifest, as_oci, choose, parse
from services.graphdriver.registry.references import Reference
from services.graphdriver.registry.sessions import Session
from shared.bus.bus import Bus
from shared.bus.context import check_cancelled
from shared.protocol import Cancelled, Descriptor, DockyardError, GetImage, Image, InvalidArgument, NotFound, SetImage
from shared.runtime.compression import ERRORS, decompressed
from shared.runtime.platforms import Platform, host_platform, normal, parse_platform

__all__ = ["Puller", "mismatch"]

Fetch = Callable[[Descriptor, Callable[[], None]], None]  # the second raises when the layer is not wanted any more
LOOK = 0.2  # seconds between two looks at whether the job was cancelled


def resolve(repository: Repository, reference: Reference, platform: Platform) -> tuple[Manifest, str]:
    """Find an image's manifest; returns it, and the digest that the reference stands for."""
    try:
        top = parse(repository.manifest(reference.wanted))
        return choose(top, platform, repository.manifest), top.document.digest
    except Refused as refused:
        raise pull_error(refused, reference) from refused


def mismatch(reference: Reference, wanted: Platform, found: Platform) -> str:
    """Say that an image is not for a platform; nothing if it is."""
    if wanted.rank(found) is not None:
        return ""
    return (
        f"image with reference {reference.familiar} was found but its platform ({found}) does not match the "
        f"specified platform ({wanted})"
    )


@dataclass(frozen=True)
class _Pulled:
    """``newer``: the reference was not the image's name before."""

    newer: bool
    warning: str


@dataclass(frozen=True)
class Puller:
    """``concurrency``: how many blobs one pull fetches at a time."""

    blobs: Blobs
    layers: Layers
    downloads: Downloads
    bus: Bus
    concurrency: int

    def pull(self, session: Session, reference: Reference, platform: str) -> None:
        """Pull what ``reference`` names: an image, or all tags of a repository.

        Errors: NotFound, Unauthorized, InvalidArgument (what the registry sent, or ``platform``), Unreachable.
        """
        wanted = parse_platform(platform) if platform else None
        references = [reference] if reference.wanted else self._all(session, reference)
        pulled = [self._one(session, one, wanted) for one in references]
        what = reference.familiar if reference.wanted else reference.familiar_name
        newer = any(one.newer for one in pulled)
        tell(f"Status: Downloaded newer image for {what}" if newer else f"Status: Image is up to date for {what}")
        for warning in filter(None, (one.warning for one in pulled)):
            tell(f"WARNING: {warning}")

    def _all(self, session: Session, reference: Reference) -> list[Reference]:
        def find(repository: Repository) -> list[str]:
            try:
                return sorted(repository.tags())
            except Refused as refused:
                raise pull_error(refused, reference) from refused

        tags, _ = session.first(reference.path, find)
        if not tags:
            raise NotFound(f"repository {reference.familiar_name} has no tags")
        return [Reference.parse(reference.name, tag) for tag in tags]

    def _one(self, session: Session, reference: Reference, wanted: Platform | None) -> _Pulled:
        """Pull one image."""
        return session.first(reference.path, lambda repository: self._at(repository, reference, wanted))[0]

    def _at(self, repository: Repository, reference: Reference, wanted: Platform | None) -> _Pulled:
        manifest, digest = resolve(repository, reference, wanted or host_platform())
        tell(f"Pulling from {reference.path}", reference.wanted)
        image_id = manifest.config.digest
        digests = [layer.digest for layer in manifest.layers]
        is_known = bool(self.bus.call(GetImage(image=image_id)))
        with ExitStack() as held:
            held.enter_context(self.blobs.hold([image_id, manifest.document.digest, *digests]))
            config = self._config(repository, manifest)
            image = self._image(repository, manifest, config, held, is_known=is_known)
            self.blobs.durable.settle()
            before = self.bus.call(GetImage(image=reference.full)).get("Id")
            names = list(dict.fromkeys([reference.full, f"{reference.name}@{digest}"]))
            self.bus.call(SetImage(image=image, tags=names, action="pull"))
        tell(f"Digest: {digest}")
        is_vouched_for = digest != manifest.document.digest  # an index names its platform, whatever its config says
        found = normal(image.os, image.architecture, image.variant)
        return _Pulled(
            before != image_id, "" if wanted is None or is_vouched_for else mismatch(reference, wanted, found)
        )

    def _config(self, repository: Repository, manifest: Manifest) -> bytes:
        descriptor = manifest.config
        if not self.blobs.has(descriptor.digest):
            self._download(repository, descriptor, lambda state, size: None)
        data = self.blobs.read(descriptor.digest)
        if len(data) != descriptor.size:
            raise InvalidArgument(f"blob {descriptor.digest} is not of {descriptor.size} bytes")
        config = image_config(data)
        if len(config["rootfs"]["diff_ids"]) != len(manifest.layers):
            raise InvalidArgument("invalid image config: it names another number of layers than the manifest")
        return data

    def _image(
        self, repository: Repository, manifest: Manifest, data: bytes, held: ExitStack, *, is_known: bool
    ) -> Image:
        """``held``: what keeps blobs and layers until the image is on record."""
        config = image_config(data)
        diff_ids = config["rootfs"]["diff_ids"]
        chains = chain_ids(diff_ids)
        held.enter_context(self.blobs.hold(chains))
        named = [as_oci(layer) for layer in manifest.layers]
        layers = [self._at_hand(*one, held) for one in zip(named, chains, strict=True)] if is_known else named
        sizes = self._layers(repository, layers, diff_ids, chains, is_known=is_known)
        self.blobs.add(io.BytesIO(data), manifest.config.digest)
        image = image_record(manifest.config.digest, config, len(data), layers, chains, sizes)
        if layers != named:
            return image
        document = manifest.document
        self.blobs.add(io.BytesIO(document.data), document.digest)
        kept = Descriptor(media_type=manifest.media_type, digest=document.digest, size=len(document.data))
        return msgspec.structs.replace(image, manifest=kept)

    def _at_hand(self, layer: Descriptor, chain: str, held: ExitStack) -> Descriptor:
        """Return a layer of an image that is here: as the manifest names it, or in the form in which it was loaded."""
        loaded = self.layers.blob(chain)
        if loaded is None or self.blobs.has(layer.digest):
            return layer
        held.enter_context(self.blobs.hold([loaded.digest]))
        return loaded if self.blobs.has(loaded.digest) else layer

    # -- layers

    def _layers(
        self,
        repository: Repository,
        layers: list[Descriptor],
        diff_ids: list[str],
        chains: list[str],
        *,
        is_known: bool,
    ) -> list[int]:
        """``is_known``: of an image that is here as a whole nothing is told but what is fetched again."""
        missing = [
            layer
            for layer, chain in zip(layers, chains, strict=True)
            if not self.blobs.has(layer.digest) or self.layers.size(chain) is None
        ]
        for layer in layers:
            if layer in missing or not is_known:
                tell("Pulling fs layer" if layer in missing else "Already exists", layer.digest, progressDetail={})
        coming = _Coming(missing, self.concurrency, lambda layer, check: self._fetch(repository, layer, check))

        def unpack(index: int, check: Callable[[], None]) -> int:
            layer, chain = layers[index], chains[index]
            if layer not in missing:
                return self.layers.size(chain) or 0
            coming.wait(layer, check)
            size = self._extract(layer, diff_ids[index], chains[: index + 1], check)
            tell("Pull complete", layer.digest, progressDetail={})
            return size

        try:
            return abreast(len(layers), unpack, self.layers.at_a_time)
        finally:
            coming.stop()

    def _fetch(self, repository: Repository, layer: Descriptor, check: Callable[[], None]) -> None:
        if self.blobs.has(layer.digest):
            tell(DONE, layer.digest, progressDetail={})
            return
        show = progress(layer.digest, DOWNLOADING)

        def told(state: str, size: int) -> None:
            if state in (DOWNLOADING, DONE):
                show(size, layer.size)
            else:
                tell(state, layer.digest, progressDetail={})

        self._download(repository, layer, told, check)
        tell("Verifying Checksum", layer.digest, progressDetail={})
        tell(DONE, layer.digest, progressDetail={})

    def _download(
        self, repository: Repository, blob: Descriptor, told: Told, check: Callable[[], None] = check_cancelled
    ) -> None:
        source = f"{repository.url}/{repository.path}"
        self.downloads.fetch(blob, source, lambda offset: repository.blob(blob.digest, offset), told, check)

    def _extract(self, layer: Descriptor, diff_id: str, chains: list[str], check: Callable[[], None]) -> int:
        with self.blobs.path(layer.digest).open("rb") as blob:
            watched = Watched(blob, layer.size, progress(layer.digest, "Extracting"))
            try:
                plain = decompressed(cast("IO[bytes]", watched))
                return self.layers.unpack(chains, diff_id, layer, plain, check)
            except ERRORS as error:
                raise InvalidArgument(f"layer {layer.digest} cannot be unpacked: {error}") from error


class _Coming:
    """Fetches layers, some at a time, in their order; they are unpacked meanwhile."""

    def __init__(self, layers: list[Descriptor], concurrency: int, fetch: Fetch) -> None:
        self._fetch = fetch
        self._waiting: queue.SimpleQueue[Descriptor] = queue.SimpleQueue()
        self._arrived = {layer.digest: threading.Event() for layer in layers}
        self._failures: list[Exception] = []
        self._stopped = False
        distinct = list({layer.digest: layer for layer in layers}.values())
        for number, layer in enumerate(distinct):
            self._waiting.put(layer)
            if number >= concurrency:
                tell("Waiting", layer.digest, progressDetail={})
        for _ in range(min(concurrency, len(distinct))):
            context = contextvars.copy_context()
            threading.Thread(target=context.run, args=(self._work,), name="pull", daemon=True).start()

    def _work(self) -> None:
        while not self._stopped and not self._failures:
            try:
                layer = self._waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self._fetch(layer, self._check)
            except Exception as error:
                self._failures.append(error)
            self._arrived[layer.digest].set()

    def wait(self, layer: Descriptor, check: Callable[[], None]) -> None:
        """Return when a layer is here. Errors: that of any which failed, those of ``check``."""
        arrived = self._arrived[layer.digest]
        while not arrived.wait(LOOK):
            check()
            self._check()
        self._check()

    def _check(self) -> None:
        check_cancelled()
        if self._stopped:
            raise Cancelled("pull: another layer failed")
        if self._failures:
            failure = self._failures[0]
            raise failure if isinstance(failure, DockyardError) else DockyardError(f"pull: {failure}") from failure

    def stop(self) -> None:
        self._stopped = True
