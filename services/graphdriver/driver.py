"""What a storage driver must offer. Layers are named by short names that `Layers` chooses; all calls are idempotent."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

__all__ = ["StorageDriver"]


class StorageDriver(Protocol):
    name: str

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

    def writable_path(self, container: Path) -> Path:
        """Return the directory whose size is the container's own."""
        ...

    def status(self) -> dict[str, str]:
        """Return facts for `docker info`."""
        ...
