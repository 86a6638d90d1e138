"""What a volume driver must offer. It keeps data by name; who uses it, and whether it may go, the engine knows."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

__all__ = ["Options", "VolumeDriver", "unknown_driver"]

Options = dict[str, str] | None


def unknown_driver(name: str, volume: str) -> str:
    """Return what users are told of a driver that there is not for them."""
    return f'create {volume}: error looking up volume plugin {name}: plugin "{name}" not found'


class VolumeDriver(Protocol):
    """All calls are idempotent, and for one volume never made at the same time."""

    name: str

    def create(self, volume: str, options: Options) -> Path:
        """Make the place of a volume's data; returns where it will be. Data that is there is kept.

        Errors: InvalidArgument (options; nothing is made), NotFound (no user can have one), OSError (what was made
        stays).
        """
        ...

    def mount(self, volume: str, options: Options) -> Path:
        """Make the data available and return its directory. Errors: DockyardError (and nothing is mounted), OSError."""
        ...

    def unmount(self, volume: str) -> None:
        """Undo `mount`. Errors: OSError."""
        ...

    def remove(self, volume: str) -> None:
        """Remove data and place. Errors: Conflict (and nothing is removed), OSError (what is left, the next call
        removes)."""
        ...

    def mounted(self) -> list[str]:
        """Return the volumes that hold something until `unmount`."""
        ...

    def usage(self, volume: str) -> int:
        """Return the bytes of the data. Errors: OSError."""
        ...
