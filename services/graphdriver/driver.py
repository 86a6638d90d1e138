"""What a storage driver must offer. Layers are named by short names that `Layers` chooses; all calls are idempotent."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

__all__ = ["StorageDriver"]


class StorageDriver(Protocol):
    name: str
    sparse: bool

    def diff_path(self, layer: Path) -> Path:
        """Return the directory of a layer into which its tar is unpacked."""
        ...

    def prepare(self, layer: Path, parents: list[Path]) -> None:
        """Make an image layer's directory ready to be unpacked into, on top of ``parents`` (bottom first)."""
        ...

    def create(self, container: Path, layers: list[Path]) -> None:
        """Make a container's writable layer on top of ``layers`` (bottom first). Errors: OSError."""
        ...

    def mount(self, container: Path, layers: list[Path]) -> Path:
        """Return the container's root filesystem, mounted. Errors: OSError."""
        ...

    def unmount(self, container: Path) -> None: ...

    def is_mounted(self, container: Path) -> bool:
        """Say whether the root filesystem is there without `mount`."""
        ...

    def below(self, layers: list[Path], scratch: Path) -> Path:
        """Return the tree that a container of ``layers`` begins with, to be read until ``unmount(scratch)``.

        ``scratch``: a directory for this alone.
        """
        ...

    def writable_path(self, container: Path) -> Path:
        """Return the directory whose size is the container's own.

        With `sparse` it holds only what differs from the layers, as overlayfs writes it, else the whole tree.
        """
        ...

    def places(self, container: Path, layers: list[Path]) -> dict[str, str]:
        """Return where the parts of a container's root filesystem are, under the names that Docker's inspect has."""
        ...

    def status(self) -> dict[str, str]:
        """Return facts for `docker info`."""
        ...
