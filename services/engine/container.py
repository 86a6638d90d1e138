"""Container: a record, the lock that serialises its changes, and those who wait for its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Literal

from services.engine.record import ContainerRecord
from shared.bus.context import waiting_for
from shared.protocol import Conflict, InvalidArgument, NotFound

__all__ = ["Container", "Containers"]


class Lock(asyncio.Lock):
    """The lock of a container: `dockyard jobs` shows who waits for it."""

    def __init__(self, record: ContainerRecord) -> None:
        super().__init__()
        self._record = record

    async def acquire(self) -> Literal[True]:
        if not self.locked():
            return await super().acquire()
        with waiting_for(f"the lock of container {self._record.name}"):
            return await super().acquire()


class Container:
    """``lock`` is held through each change (start, exit, remove), never while waiting for a process to end."""

    def __init__(self, record: ContainerRecord) -> None:
        self.record = record
        self.lock = Lock(record)
        self.stillness = asyncio.Lock()  # held by who pauses it for a while
        self._exits: set[asyncio.Future[int]] = set()
        self._removals: set[asyncio.Future[int]] = set()
        self.restart: asyncio.Task[None] | None = None
        self.volumes_given_back: set[str] = set()  # while it has more to give back (`ContainerRecord.unsettled`)
        self.restarts = 0  # asked for and under way: what removes itself stays for them
        self.host_goes_down = False  # what ends now is not started again by this engine

    @property
    def id(self) -> str:
        return self.record.id

    def exit_future(self) -> asyncio.Future[int]:
        """Return a future of the next exit's code."""
        return self._future(self._exits)

    def removal_future(self) -> asyncio.Future[int]:
        """Return a future of the last exit code, done when the container is removed."""
        return self._future(self._removals)

    def _future(self, waiters: set[asyncio.Future[int]]) -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        waiters.add(future)
        future.add_done_callback(waiters.discard)
        return future

    def tell_exit(self) -> None:
        self._tell(self._exits)

    def tell_removal(self) -> None:
        self._tell(self._exits)
        self._tell(self._removals)

    def _tell(self, waiters: set[asyncio.Future[int]]) -> None:
        for future in list(waiters):
            if not future.done():
                future.set_result(self.record.exit_code)


class Containers:
    """All containers, by id and by name. Names are kept without the API's leading slash."""

    def __init__(self, records: list[ContainerRecord]) -> None:
        self._by_id = {record.id: Container(record) for record in records}
        self._by_name = {record.name: record.id for record in records}

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def by_id(self, container_id: str) -> Container | None:
        return self._by_id.get(container_id)

    def find(self, ref: str) -> Container:
        """Look up by id, then name, or the name that a link gives (``parent/alias``), then unambiguous id prefix.

        Errors: NotFound, InvalidArgument.
        """
        name = ref.removeprefix("/")
        found = self._by_id.get(ref) or self._by_id.get(self._by_name.get(name, "")) or self._linked(name)
        if found is not None:
            return found
        matches = [c for i, c in self._by_id.items() if ref and i.startswith(ref)]
        if len(matches) > 1:
            raise InvalidArgument(f"multiple IDs found with provided prefix: {ref}")
        if not matches:
            raise NotFound(f"No such container: {ref}")
        return matches[0]

    def _linked(self, name: str) -> Container | None:
        parent_name, _, alias = name.rpartition("/")
        parent = self._by_id.get(self._by_name.get(parent_name, ""))
        links = parent.record.host_config.links or [] if parent is not None else []
        children = [child for child, _, known in (link.partition(":") for link in links) if known == alias]
        return self._by_id.get(children[-1]) if children else None

    def name_taken(self, name: str) -> bool:
        return name in self._by_name

    def reserve(self, name: str, container_id: str) -> None:
        """Take a name. Errors: Conflict."""
        holder = self._by_name.get(name)
        if holder is not None:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{holder}". You have to '
                "remove (or rename) that container to be able to reuse that name."
            )
        self._by_name[name] = container_id

    def release(self, name: str) -> None:
        self._by_name.pop(name, None)

    def add(self, container: Container) -> None:
        self._by_id[container.id] = container

    def remove(self, container: Container) -> None:
        self._by_id.pop(container.id, None)
        self.release(container.record.name)
