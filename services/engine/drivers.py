"""Drivers: the processes that have registered, the names they hold, and whether they still live.

A process that dies is noticed at once through its pidfd; one that hangs through its heartbeats.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from shared.protocol import Conflict, InvalidArgument, Registration

__all__ = ["Driver", "Drivers"]

log = logging.getLogger("dockyard.engine")


@dataclass(eq=False)
class Driver:
    peer: bytes
    service: str
    pid: int
    names: frozenset[str]
    pool: bool
    catchall: bool
    pidfd: int
    heard: float = field(default_factory=time.monotonic)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    silent: bool = False
    leaving: bool = False  # it was asked to end, and gets no more jobs
    jobs: set[str] = field(default_factory=set)  # ids under way

    @property
    def usable(self) -> bool:
        return self.ready.is_set() and not self.silent and not self.leaving


class Drivers:
    def __init__(self, on_lost: Callable[[Driver, str], None]) -> None:
        self._on_lost = on_lost
        self._drivers: dict[bytes, Driver] = {}
        self._changed = asyncio.Event()
        self.seen: set[str] = set()  # services that have registered at some time
        self.on_back: Callable[[Driver], None] = lambda driver: None  # one that was silent answers again

    def __iter__(self) -> Iterator[Driver]:
        return iter(list(self._drivers.values()))

    def by_peer(self, peer: bytes) -> Driver | None:
        return self._drivers.get(peer)

    def register(self, peer: bytes, service: str, registration: Registration) -> None:
        """Note a driver; the same one again replaces itself. Raises Conflict for a name that another holds.

        One that says again what it has said keeps its jobs: it may have been asked to, and have said it before.
        """
        if not service or registration.pid <= 0:
            raise InvalidArgument("a registration needs a service name and a pid")
        known, names = self._drivers.get(peer), frozenset(registration.names)
        if registration.leaving:
            if known is not None:
                known.leaving = True
            return
        if known is not None and (known.pid, known.names) == (registration.pid, names):
            return
        for other in list(self._drivers.values()):
            if other.peer == peer or (other.service == service and other.pid == registration.pid):
                self._forget(other)
            elif not (registration.pool and other.pool and other.service == service):
                for name in sorted(names & other.names):
                    raise Conflict(f"Can't overwrite handler for command {name}")
                if registration.catchall and other.catchall:
                    raise Conflict(f"{other.service} catches all other jobs already")
        try:
            pidfd = os.pidfd_open(registration.pid)
        except (OSError, OverflowError) as error:
            raise InvalidArgument(f"no process {registration.pid}: {error}") from error
        driver = Driver(peer, service, registration.pid, names, registration.pool, registration.catchall, pidfd)
        self._drivers[peer] = driver
        self.seen.add(service)
        asyncio.get_running_loop().add_reader(pidfd, self.lose, driver, "died")

    def lose(self, driver: Driver, why: str) -> None:
        if self._drivers.get(driver.peer) is driver:
            self._forget(driver)
            self._on_lost(driver, why)

    def _forget(self, driver: Driver) -> None:
        del self._drivers[driver.peer]
        asyncio.get_running_loop().remove_reader(driver.pidfd)
        os.close(driver.pidfd)

    def close(self) -> None:
        for driver in list(self._drivers.values()):
            self._forget(driver)

    def heard(self, peer: bytes) -> None:
        """Note a sign of life, if the peer is a driver: anything that it sends is one."""
        driver = self._drivers.get(peer)
        if driver is None:
            return
        driver.heard = time.monotonic()
        if driver.silent:
            log.info("service answers again name=%s pid=%d", driver.service, driver.pid)
            driver.silent = False
            self.changed()
            self.on_back(driver)

    def check_silence(self, limit: float) -> None:
        """Give up on drivers that have not been heard for ``limit`` seconds; they may come back."""
        now = time.monotonic()
        for driver in self:
            if not driver.silent and now - driver.heard > limit:
                driver.silent = True
                self._on_lost(driver, "does not answer")

    def choose(self, name: str) -> Driver | None:
        """Return the holder of a job name with the fewest jobs under way, if any is ready; else a catch-all."""
        drivers = self._drivers.values()
        holders = [driver for driver in drivers if name in driver.names and driver.usable]
        holders = holders or [driver for driver in drivers if driver.catchall and driver.usable]
        return min(holders, key=lambda driver: len(driver.jobs), default=None)

    def of(self, service: str) -> list[Driver]:
        return [driver for driver in self._drivers.values() if driver.usable and driver.service == service]

    def changed(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for(self, name: str) -> Driver:
        """Wait until somebody holds a job name."""
        while (driver := self.choose(name)) is None:
            await self._changed.wait()
        return driver

    async def wait_for_service(self, service: str) -> None:
        while not self.of(service):
            await self._changed.wait()
