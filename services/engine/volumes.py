"""Volumes: their records, and who uses them. The data is kept by a driver (see `services.graphdriver.volumes`).

Who uses a volume is read off the containers' records, never counted. A record is written before anything is made and
deleted after everything is removed, so that nothing is ever on disk that no record tells of:

| status   | what may be there                   | after a crash                                            |
|----------|-------------------------------------|----------------------------------------------------------|
| creating | nothing, or the place of its data   | a named one is made; an anonymous one, nobody's, removed |
| ready    | its data                            | as it was                                                |
| removing | some or all of its data             | the removal goes on                                      |
"""

from __future__ import annotations

import asyncio
import enum
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import msgspec

from services.engine.container import Container, Containers
from shared.protocol import ANONYMOUS_LABEL, InvalidArgument, NotFound

if TYPE_CHECKING:
    from services.engine.quarantine import Quarantine
    from services.engine.store import Store

__all__ = ["VolumeRecord", "VolumeStatus", "Volumes", "check_name"]

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")

NAME_MAX = 255  # characters: it is the name of a directory


class VolumeStatus(enum.StrEnum):
    CREATING = "creating"
    READY = "ready"
    REMOVING = "removing"


class VolumeRecord(msgspec.Struct, kw_only=True):
    """``created`` in nanoseconds since the epoch; ``options`` as the driver takes them."""

    name: str
    driver: str
    created: int
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    mountpoint: str = ""  # where its data is on the host
    status: VolumeStatus = VolumeStatus.CREATING
    created_by: str = ""  # the id of the job that created it
    removed_by: str = ""  # the id of the job that is to be answered when it is gone

    @property
    def anonymous(self) -> bool:
        return ANONYMOUS_LABEL in (self.labels or {})


def check_name(name: str) -> None:
    """Errors: InvalidArgument, in Docker's words."""
    if len(name) == 1:
        raise InvalidArgument(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if len(name) > NAME_MAX:
        raise InvalidArgument(f"create {name}: volume name is too long, names should be at most {NAME_MAX} characters")
    if not NAME.fullmatch(name):
        raise InvalidArgument(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


class Volumes:
    def __init__(self, store: Store, containers: Containers, quarantine: Quarantine) -> None:
        self._store, self._containers, self._quarantine = store, containers, quarantine
        self._records = {record.name: record for record in store.volumes()}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._expected: Counter[str] = Counter()  # by containers that have no record yet

    def __iter__(self) -> Iterator[VolumeRecord]:
        """Iterate over all, whatever their status."""
        return iter(list(self._records.values()))

    def get(self, name: str) -> VolumeRecord | None:
        return self._records.get(name)

    def find(self, name: str) -> VolumeRecord:
        """Return a volume that exists for users. Errors: NotFound."""
        record = self._records.get(name)
        if record is None or record.status is VolumeStatus.CREATING:
            raise NotFound(f"get {name}: no such volume")
        return record

    def lock(self, name: str) -> asyncio.Lock:
        """Return the lock under which a volume is made, mounted, unmounted and removed."""
        return self._locks.setdefault(name, asyncio.Lock())

    def put(self, record: VolumeRecord) -> None:
        self._store.put_volume(record)
        self._records[record.name] = record

    def delete(self, record: VolumeRecord) -> None:
        self._store.delete_volume(record.name)
        self._records.pop(record.name, None)

    # -- who uses them

    @contextmanager
    def expected(self, names: Iterable[str]) -> Iterator[None]:
        """Keep volumes that a container is to have which has no record yet."""
        wanted = Counter(names)
        self._expected += wanted
        try:
            yield
        finally:
            self._expected -= wanted

    def unwanted(self, name: str, *, besides: str = "") -> bool:
        """Say whether no container (but ``besides``) has the volume, or is about to."""
        return not self._expected[name] and not any(id_ != besides for id_ in self.users(name))

    def users(self, name: str) -> Iterator[str]:
        """Return the ids of all containers that have a volume, or may have: those in quarantine keep theirs."""
        yield from (container.id for container in self.containers_of(name))
        yield from self._quarantine.users_of_volume(name)

    def containers_of(self, name: str) -> Iterator[Container]:
        return (c for c in self._containers if any(name == point.name for point in c.record.mounts))

    def references(self) -> Counter[str]:
        """Return how many containers have each volume."""
        return Counter(name for c in self._containers for name in {p.name for p in c.record.mounts if p.name})

    def in_use(self, name: str, *, besides: str = "") -> bool:
        """Say whether a container that runs, or has not given it back, has the volume."""
        holders = (
            c
            for c in self.containers_of(name)
            if c.record.running or (c.record.unsettled and name not in c.volumes_given_back)
        )
        return any(c.id != besides for c in holders) or any(
            id_ != besides for id_ in self._quarantine.users_of_volume(name)
        )
