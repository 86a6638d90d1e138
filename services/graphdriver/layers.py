"""Layers: image layers by chain id, containers' writable layers, and their mounts.

A layer is unpacked in tmp/ and renamed into place; its directory's name is a short prefix of its chain id, so that a
mount of more than a hundred fits into the kernel's 4096 bytes of options.

A container's root filesystem may be mounted because the engine wants it (`mount`) and because somebody reads it at
present (`borrowed`): never twice, since overlayfs does not bear two mounts of one upper directory. CONTAINER/borrowed
says that only borrowers want the mount; the last of them unmounts it, or the next start after a kill.
"""

from __future__ import annotations

import json
import secrets
import shutil
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

from services.graphdriver.abreast import MOST
from services.graphdriver.ahead import ahead
from services.graphdriver.apply import apply_layer
from services.graphdriver.blobs import Blobs
from services.graphdriver.driver import StorageDriver
from services.graphdriver.hashing import Hashing
from services.graphdriver.overlay import Overlay
from services.graphdriver.trees import tree_size
from services.graphdriver.unpack import MAX_UNPACKED
from services.graphdriver.vfs import Vfs
from shared.bus.context import check_cancelled
from shared.protocol import COLLECTED_BY, Descriptor, DockyardError, InvalidArgument, NotFound

__all__ = ["Layers", "choose_driver"]

SHORT = COLLECTED_BY  # hex digits of a chain id in a directory's name
BORROWED = "borrowed"


def choose_driver(name: str, directory: Path, options: Sequence[str] = ()) -> StorageDriver:
    """Return the driver of that name, or that of the layers which are here, or the best that works in ``directory``.

    ``options``: those of overlay, as ``overlay.index=on``. Errors: DockyardError.
    """
    overlay, vfs = Overlay([option.removeprefix("overlay.") for option in options]), Vfs()
    name = name or next((driver.name for driver in (overlay, vfs) if _has_layers(directory.parent / driver.name)), "")
    if name != vfs.name and overlay.works(directory):
        return overlay
    if name == overlay.name:
        raise DockyardError(f"storage driver overlay does not work in {directory}")
    return vfs


def _has_layers(directory: Path) -> bool:
    return directory.is_dir() and any(directory.iterdir())


class Layers:
    """``max_unpacked``: bytes that the tar of one layer may have."""

    max_unpacked = MAX_UNPACKED

    def __init__(self, root: Path, driver: StorageDriver, blobs: Blobs) -> None:
        self.driver, self._blobs = driver, blobs
        self._temporary = root / "tmp"
        self._layers = root / driver.name
        self._containers = root / "containers"
        for directory in (self._layers, self._containers):
            directory.mkdir(mode=0o710, parents=True, exist_ok=True)
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._borrowers: Counter[str] = Counter()
        for left in self._containers.glob(f"*/{BORROWED}"):
            self._give_back(left.parent)

    # -- image layers

    def path(self, chain_id: str) -> Path:
        return self._layers / chain_id.removeprefix("sha256:")[:SHORT]

    def size(self, chain_id: str) -> int | None:
        """Return the bytes of a layer's files, None if it is not here."""
        facts = self._facts(chain_id)
        return None if facts is None else int(facts["size"])

    def blob(self, chain_id: str) -> Descriptor | None:
        """Return what a layer was unpacked from, which may be gone; None if the layer is not here or does not say."""
        facts = self._facts(chain_id)
        return msgspec.convert(facts["blob"], Descriptor) if facts is not None and "blob" in facts else None

    def _facts(self, chain_id: str) -> dict[str, Any] | None:
        try:
            facts: dict[str, Any] = json.loads((self.path(chain_id) / "layer.json").read_text())
        except FileNotFoundError:
            return None
        if facts["chain_id"] != chain_id:
            raise DockyardError(f"layers {facts['chain_id']} and {chain_id} share a short name")
        return facts

    @property
    def at_a_time(self) -> int:
        """How many layers of one image may be unpacked together: each stands alone, or is made of the one below."""
        return MOST if self.driver.sparse else 1

    def unpack(
        self,
        chain_ids: list[str],
        diff_id: str,
        blob: Descriptor,
        source: IO[bytes],
        check: Callable[[], None] = check_cancelled,
    ) -> int:
        """Unpack an uncompressed tar, which ``blob`` holds, as a layer; returns its size.

        ``chain_ids``: those of the layers below, and its own. ``check`` raises when it is not wanted any more.
        One that is here already is not unpacked again, but read: its blob may be another, which has to be the same.
        Errors: InvalidArgument (broken, or not diff_id), those of ``check``.
        """
        *parents, chain_id = chain_ids
        with self._locks[chain_id]:
            known, stream = self.size(chain_id), Hashing(source, self.max_unpacked, check)
            if known is not None:
                if (found := stream.digest()) != diff_id:
                    raise InvalidArgument(f"layer {diff_id} does not match its digest: {found}")
                return known
            temporary = self._temporary / secrets.token_hex(8)
            try:
                self.driver.prepare(temporary, [self.path(parent) for parent in parents])
                target = self.driver.diff_path(temporary)
                with ahead(stream) as plain:
                    size = apply_layer(plain, target, overlay=self.driver.name == "overlay")
                if (found := stream.digest()) != diff_id:
                    raise InvalidArgument(f"layer {diff_id} does not match its digest: {found}")
                facts = {"chain_id": chain_id, "size": size, "blob": msgspec.to_builtins(blob)}
                (temporary / "layer.json").write_text(json.dumps(facts))
                with self._blobs.durable.change():
                    temporary.rename(self.path(chain_id))
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            return size

    def _there(self, chain_ids: Sequence[str]) -> list[Path]:
        """Return the directories of layers. Errors: NotFound (one that is not here)."""
        for chain_id in chain_ids:
            if self.size(chain_id) is None:
                raise NotFound(f"no such layer: {chain_id}")
        return [self.path(chain_id) for chain_id in chain_ids]

    def show(self, chain_ids: Sequence[str], place: Path) -> Path:
        """Return the tree that layers make, for reading, until `hide`; ``place``: a directory for this alone."""
        return self.driver.below(self._there(chain_ids), place)

    def hide(self, place: Path) -> None:
        """Undo `show`. Idempotent."""
        if place.exists():
            self.driver.unmount(place)
            shutil.rmtree(place)

    # -- containers' layers

    def create(self, container: str, chain_ids: list[str]) -> dict[str, str]:
        """Make a container's writable layer; returns `StorageDriver.places` of it."""
        directory, layers = self._container(container), self._there(chain_ids)
        with self._locks[container]:
            self.driver.create(directory, layers)
            temporary = directory / "layers.new"
            temporary.write_text(json.dumps(chain_ids))
            temporary.rename(directory / "layers.json")
        return self.driver.places(directory, layers)

    def mount(self, container: str) -> Path:
        directory = self._container(container)
        with self._locks[container]:
            path = self._mount(container)
            (directory / BORROWED).unlink(missing_ok=True)
            return path

    def _mount(self, container: str) -> Path:
        return self.driver.mount(self._container(container), self._parents(container))

    def unmount(self, container: str) -> None:
        directory = self._container(container)
        with self._locks[container]:
            if self._borrowers[container]:
                (directory / BORROWED).touch()
            else:
                self._give_back(directory)

    def _give_back(self, directory: Path) -> None:
        self.driver.unmount(directory)
        (directory / BORROWED).unlink(missing_ok=True)

    @contextmanager
    def borrowed(self, container: str) -> Iterator[Path]:
        """Have a container's root filesystem mounted for a while. Errors: NotFound, OSError.

        It may be removed meanwhile; what was opened of it stays readable.
        """
        directory = self._container(container)
        with self._locks[container]:
            if not self.driver.is_mounted(directory):
                self._chain(container)
                (directory / BORROWED).touch()
            path = self._mount(container)
            self._borrowers[container] += 1
        try:
            yield path
        finally:
            with self._locks[container]:
                self._borrowers[container] -= 1
                if not self._borrowers[container]:
                    del self._borrowers[container]
                    if (directory / BORROWED).exists():
                        self._give_back(directory)

    @contextmanager
    def compared(self, container: str) -> Iterator[tuple[Path, Path]]:
        """Have what a container holds of its own (`StorageDriver.writable_path`), and the tree that it began with."""
        parents = self._parents(container)
        scratch = self._temporary / secrets.token_hex(8)
        scratch.mkdir(mode=0o700)
        try:
            yield self.driver.writable_path(self._container(container)), self.driver.below(parents, scratch)
        finally:
            self.driver.unmount(scratch)
            shutil.rmtree(scratch, ignore_errors=True)

    def remove(self, container: str) -> None:
        with self._locks[container]:
            directory = self._container(container)
            self.driver.unmount(directory)
            if directory.exists():
                doomed = self._temporary / secrets.token_hex(8)
                directory.rename(doomed)
                shutil.rmtree(doomed, ignore_errors=bool(self._borrowers[container]))  # who still writes into it
        self._locks.pop(container, None)

    def below_size(self, container: str) -> int:
        """Return the bytes of the layers that a container began with."""
        return sum(self.size(chain_id) or 0 for chain_id in self._chain(container))

    def _chain(self, container: str) -> list[str]:
        try:
            chain: list[str] = json.loads((self._container(container) / "layers.json").read_text())
        except FileNotFoundError:
            raise NotFound(f"no layer of container {container}") from None
        except ValueError as error:
            raise DockyardError(f"layers of container {container} are unreadable: {error}") from error
        return chain

    def _parents(self, container: str) -> list[Path]:
        return [self.path(chain_id) for chain_id in self._chain(container)]

    def _container(self, container: str) -> Path:
        if not container.isalnum():
            raise InvalidArgument(f"invalid container id: {container[:100]!r}")
        return self._containers / container

    def collect(self, keep_chains: set[str], keep_containers: set[str], is_asked: Callable[[str], bool]) -> int:
        """Remove all layers ``is_asked`` for but those named and held; returns the bytes freed."""
        freed = 0
        for directory in [found for found in self._containers.iterdir() if is_asked(found.name)]:
            if directory.name.isalnum() and directory.name not in keep_containers:
                freed += tree_size(self.driver.writable_path(directory))
                self.remove(directory.name)
        wanted = {self.path(chain).name for chain in keep_chains}
        for directory in [found for found in self._layers.iterdir() if is_asked(found.name)]:
            if directory.name not in wanted:
                freed += self._collect_layer(directory)
        return freed

    def _collect_layer(self, directory: Path) -> int:
        doomed = self._temporary / secrets.token_hex(8)
        with self._blobs.unheld(lambda name: self.path(name) == directory) as free:
            if not free:
                return 0
            directory.rename(doomed)
        size = tree_size(doomed)
        shutil.rmtree(doomed)
        return size
