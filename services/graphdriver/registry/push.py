"""Push: an image's blobs and its manifest to a registry, which is sent only what it has not got yet."""

from __future__ import annotations

import contextvars
import json
import logging
import queue
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from services.graphdriver.blobs import Blobs, digest_of
from services.graphdriver.contents.images import LayerFile
from services.graphdriver.progress import Watched, progress, tell
from services.graphdriver.registry.answers import Refused
from services.graphdriver.registry.client import Repository
from services.graphdriver.registry.manifests import DOCKER_MANIFEST, OCI_MANIFEST, as_docker
from services.graphdriver.registry.references import Reference
from services.graphdriver.registry.sessions import Session
from services.graphdriver.registry.transport import Unreachable
from shared.bus.bus import Bus
from shared.bus.context import check_cancelled, emit
from shared.protocol import Descriptor, DockyardError, Image, NotFound, PushableImage, SetImage

__all__ = ["Pusher"]

T = TypeVar("T")
ATTEMPTS, PAUSE = 5, 0.5  # of one request, of one blob's upload; seconds between two
LOOK = 0.2  # seconds between two looks at whether the job was cancelled
CONFIG_TYPE = {
    DOCKER_MANIFEST: "application/vnd.docker.container.image.v1+json",
    OCI_MANIFEST: "application/vnd.oci.image.config.v1+json",
}
log = logging.getLogger("dockyard.registry")


@dataclass
class _Blob:
    """One layer on its way: ``path`` is its bytes; ``stored`` what they were here, before they were packed.

    ``mounts``: other repositories there that have it.
    """

    diff_id: str
    stored: str
    descriptor: Descriptor
    path: Path
    mounts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Pusher:
    """``concurrency``: how many blobs one push sends at a time."""

    blobs: Blobs
    temporary: Path
    bus: Bus
    concurrency: int

    def push(self, session: Session, reference: Reference, images: list[PushableImage]) -> None:
        """Errors: NotFound, Unauthorized, PermissionDenied, Unreachable, DockyardError."""
        _, repository = session.first(reference.path, Repository.ping, push=True)
        for pushed in images:
            try:
                self._one(repository, reference.with_tag(pushed.tag), pushed)
            except Refused as refused:
                raise refused.error() from refused

    def _one(self, repository: Repository, reference: Reference, pushed: PushableImage) -> None:
        image = pushed.image
        digests = [layer.digest for layer in image.layers]
        held = [image.id, *digests, *image.chain_ids, *([image.manifest.digest] if image.manifest else [])]
        directory = self.temporary / secrets.token_hex(8)
        with self.blobs.hold(held):
            for digest in (image.id, *digests):
                if not self.blobs.has(digest):
                    raise NotFound(f"blob {digest} is missing")
            directory.mkdir(mode=0o700)
            try:
                sent = self._layers(repository, pushed, directory)
            finally:
                shutil.rmtree(directory, ignore_errors=True)
            media_type, data = self._manifest(image, sent)
            self._send_config(repository, image)
            _steadily(lambda: repository.put_manifest(reference.tag, media_type, data))
            digest = digest_of(data)
            self.bus.call(SetImage(image=image, tags=[reference.full, f"{reference.name}@{digest}"], action="push"))
        tell(f"{reference.tag}: digest: {digest} size: {len(data)}")
        result = {"Tag": reference.tag, "Digest": digest, "Size": len(data)}
        emit(json.dumps({"progressDetail": {}, "aux": result}), stream="progress")

    def _manifest(self, image: Image, layers: list[Descriptor]) -> tuple[str, bytes]:
        """Return the one that the image came with, if it still tells of these layers; else a new one."""
        if image.manifest is not None and layers == image.layers and self.blobs.has(image.manifest.digest):
            return image.manifest.media_type, self.blobs.read(image.manifest.digest)
        media_type = OCI_MANIFEST if any("zstd" in layer.media_type for layer in layers) else DOCKER_MANIFEST
        config = Descriptor(media_type=CONFIG_TYPE[media_type], digest=image.id, size=image.config_size)
        shown = layers if media_type == OCI_MANIFEST else [as_docker(layer) for layer in layers]
        document = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": _show(config),
            "layers": [_show(layer) for layer in shown],
        }
        return media_type, json.dumps(document, indent=3).encode()

    def _send_config(self, repository: Repository, image: Image) -> None:
        if not _steadily(lambda: repository.has_blob(image.id)):
            path = self.blobs.path(image.id)
            config = Descriptor(media_type="", digest=image.id, size=image.config_size)
            _upload(repository, _Blob(image.id, image.id, config, path), lambda current, total: None)

    # -- layers

    def _layers(self, repository: Repository, pushed: PushableImage, directory: Path) -> list[Descriptor]:
        image = pushed.image
        blobs = [
            _Blob(diff_id, layer.digest, layer, self.blobs.path(layer.digest), pushed.mounts.get(layer.digest, []))
            for diff_id, layer in zip(image.diff_ids, image.layers, strict=True)
        ]
        for number, blob in enumerate(blobs):
            tell("Preparing", blob.diff_id, progressDetail={})
            if number >= self.concurrency:
                tell("Waiting", blob.diff_id, progressDetail={})
        distinct = {blob.stored: blob for blob in blobs}
        _at_a_time(list(distinct.values()), self.concurrency, lambda blob: _send(repository, blob, directory))
        return [distinct[blob.stored].descriptor for blob in blobs]


def _at_a_time(blobs: list[_Blob], concurrency: int, send: Any) -> None:
    """Send blobs, some at a time. Errors: that of the first which failed; the rest is given up."""
    waiting: queue.SimpleQueue[_Blob] = queue.SimpleQueue()
    failures: list[Exception] = []
    for blob in blobs:
        waiting.put(blob)

    def work() -> None:
        while not failures:
            try:
                send(waiting.get_nowait())
            except queue.Empty:
                return
            except Exception as error:
                failures.append(error)

    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(work,), name="push", daemon=True)
        for _ in range(min(concurrency, len(blobs)))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive() and not failures:
            thread.join(LOOK)
            check_cancelled()
    for failure in failures:
        raise failure


def _send(repository: Repository, blob: _Blob, directory: Path) -> None:
    _pack(blob, directory)
    digest = blob.descriptor.digest
    if _steadily(lambda: repository.has_blob(digest)):
        tell("Layer already exists", blob.diff_id, progressDetail={})
        return
    for source in blob.mounts:
        with suppress(Refused):  # we may not, or it is not there any more
            location = repository.begin_upload(mount=digest, source=source)
            if not location:
                tell(f"Mounted from {source}", blob.diff_id, progressDetail={})
                return
            with suppress(Refused):
                repository.cancel_upload(location)
    _upload(repository, blob, progress(blob.diff_id, "Pushing"))
    tell("Pushed", blob.diff_id, progressDetail={})


def _pack(blob: _Blob, directory: Path) -> None:
    """Pack a layer that is stored as it is with gzip; the same layer gives the same blob."""
    with blob.path.open("rb") as source:
        if "gzip" in blob.descriptor.media_type or "zstd" in blob.descriptor.media_type:
            return
        packed = LayerFile(directory / blob.descriptor.digest.removeprefix("sha256:"))
        try:
            while chunk := source.read(1 << 20):
                check_cancelled()
                packed.write(chunk)
        finally:
            packed.close()
    blob.path, blob.descriptor = packed.path, packed.descriptor


def _upload(repository: Repository, blob: _Blob, told: Any) -> None:
    """Send a blob; where the connection breaks, what has arrived is not sent again."""
    location, size = _steadily(repository.begin_upload), blob.descriptor.size
    with blob.path.open("rb") as file, _given_up(repository, lambda: location):
        source, offset = cast("IO[bytes]", _Checked(Watched(file, size, told))), 0
        for attempt in range(1, ATTEMPTS + 1):
            try:
                if attempt > 1:
                    offset, location = repository.uploaded(location)
                if offset < size or not size:
                    location = repository.upload(location, source, offset, size)
                break
            except (Unreachable, Refused) as error:
                if attempt == ATTEMPTS or (isinstance(error, Refused) and not _may_go_on(error)):
                    raise
                log.info("upload broke off digest=%s error=%s", blob.descriptor.digest, error)
                _pause(attempt)
        _steadily(lambda: _finish(repository, location, blob.descriptor.digest))


def _finish(repository: Repository, location: str, digest: str) -> None:
    try:
        repository.finish_upload(location, digest)
    except Refused as refused:  # it may have been finished before, by a request whose answer was lost
        if refused.status != HTTPStatus.NOT_FOUND or not repository.has_blob(digest):
            raise


def _steadily(ask: Callable[[], T]) -> T:
    """Ask something that may be asked twice, again while the registry stumbles. Errors: those of ``ask``, Cancelled."""
    for attempt in range(1, ATTEMPTS):
        try:
            return ask()
        except (Unreachable, Refused) as error:
            if isinstance(error, Refused) and not error.is_passing:
                raise
            log.info("the registry stumbles error=%s", error)
            _pause(attempt)
    return ask()


def _may_go_on(refused: Refused) -> bool:
    """Say whether asking for the upload's state makes sense: the registry stumbled, or the token's time was over."""
    return refused.is_passing or refused.status in (401, 416)


def _pause(attempt: int) -> None:
    until = time.monotonic() + PAUSE * attempt
    while time.monotonic() < until:
        check_cancelled()
        time.sleep(LOOK)


@contextmanager
def _given_up(repository: Repository, location: Any) -> Iterator[None]:
    """Tell the registry of an upload that will not be finished."""
    try:
        yield
    except BaseException:
        with suppress(Refused, DockyardError):
            repository.cancel_upload(location())
        raise


class _Checked:
    """A stream that ends with Cancelled when the job was cancelled."""

    def __init__(self, source: Watched) -> None:
        self._source = source

    def read(self, size: int = -1) -> bytes:
        check_cancelled()
        return self._source.read(size)

    def seek(self, offset: int) -> int:
        return self._source.seek(offset)

    def tell(self) -> int:
        return self._source.tell()


def _show(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "size": descriptor.size, "digest": descriptor.digest}
