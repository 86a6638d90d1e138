"""Leases: what each container was given, one file a container, written before anything is handed out.

A lease without its kernel objects is made good or taken back; a kernel object without a lease is removed. So whatever
a crash interrupts, the files say what was meant.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import msgspec

from shared.protocol import Data, Interface

__all__ = ["Lease", "Leases"]

log = logging.getLogger("dockyard.netdriver")


class Lease(Data, frozen=True):
    container: str
    generation: int
    interface: Interface


class Leases:
    """The leases in ``directory``, kept in memory too. Thread-safe; raises OSError where the disk fails."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in directory.iterdir():
            self._load(path)

    def _load(self, path: Path) -> None:
        if path.suffix == ".json":
            try:
                lease = msgspec.json.decode(path.read_bytes(), type=Lease)
                self._leases[lease.container] = lease
                return
            except (OSError, msgspec.DecodeError) as error:
                log.warning("lease is unreadable, dropped path=%s error=%s", path, error)
        path.unlink(missing_ok=True)

    def get(self, container: str) -> Lease | None:
        return self._leases.get(container)

    def all(self) -> list[Lease]:
        with self._lock:
            return list(self._leases.values())

    def put(self, lease: Lease) -> None:
        """Write a lease, or replace the container's: whole or not at all."""
        temporary = self._directory / f"{lease.container}.new"
        temporary.write_bytes(msgspec.json.encode(lease))
        temporary.replace(self._path(lease.container))
        with self._lock:
            self._leases[lease.container] = lease

    def drop(self, container: str) -> None:
        """Forget a container's lease; none is no error."""
        self._path(container).unlink(missing_ok=True)
        with self._lock:
            self._leases.pop(container, None)

    def _path(self, container: str) -> Path:
        return self._directory / f"{container}.json"
