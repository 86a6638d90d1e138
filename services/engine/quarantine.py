"""Quarantine: what a container holds whose record cannot be read. It is kept until somebody removes it by force."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from services.engine.store import Store
from shared.protocol import InvalidArgument

__all__ = ["Quarantine"]


class _Mount(msgspec.Struct):
    name: str = ""


class _Remains(msgspec.Struct):
    """What can be read of a record that as a whole cannot."""

    image: str
    mounts: list[_Mount]


class Quarantine:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._remains = {id_: _remains(blob) for id_, blob in store.quarantined_records("containers")}
        self.has_images = any(True for _ in store.quarantined_records("images"))

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids of containers."""
        return iter(list(self._remains))

    def __contains__(self, container: str) -> bool:
        return container in self._remains

    def users_of_volume(self, name: str) -> Iterator[str]:
        """Return the containers that have a volume; one that says nothing of its volumes may have any."""
        return (i for i, r in self._remains.items() if r is None or any(mount.name == name for mount in r.mounts))

    def users_of_image(self, image: str) -> Iterator[str]:
        mounted = image.removeprefix("sha256:")
        return (
            id_
            for id_, remains in self._remains.items()
            if remains is None or remains.image == image or any(mount.name == mounted for mount in remains.mounts)
        )

    def find(self, ref: str) -> str | None:
        """Look up by id or its beginning; names are lost. Errors: InvalidArgument (several begin so)."""
        matches = [id_ for id_ in self._remains if ref and id_.startswith(ref)]
        if len(matches) > 1:
            raise InvalidArgument(f"multiple IDs found with provided prefix: {ref}")
        return matches[0] if matches else None

    def forget(self, container: str) -> None:
        self._store.forget_quarantined("containers", container)
        self._remains.pop(container, None)


def _remains(blob: bytes) -> _Remains | None:
    try:
        return msgspec.json.decode(blob, type=_Remains)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
