"""NetDriver: the leases' life. It decides what a container holds; a `Driver` for each network mode makes it so."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from services.netdriver.driver import Driver
from services.netdriver.leases import Lease, Leases
from services.netdriver.netns import exists, open_namespace, remove
from services.netdriver.none import NoneDriver
from services.netdriver.ports import request
from shared.protocol import (
    AllocatedPort,
    AllocateInterface,
    AllocatePort,
    Bridge,
    Conflict,
    DockyardError,
    Interface,
    InvalidArgument,
    LinkContainers,
    NotFound,
    NotImplementedByUs,
)
from shared.runtime.config import Config

__all__ = ["NetDriver"]

CONTAINER_ID = re.compile(r"[0-9a-f]{12,64}")  # it becomes part of paths and of link names
LOCKS = 64
log = logging.getLogger("dockyard.netdriver")


class NetDriver:
    """Thread-safe; the operations on one container are carried out one after another.

    ``drivers``: network mode → driver. Raises OSError if the run directory cannot be used.
    """

    def __init__(self, config: Config, drivers: Mapping[str, Driver]) -> None:
        self._default_ip, self._icc = config.ip, config.icc
        self._namespaces = config.run / "netns"
        self._namespaces.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._leases = Leases(config.run / "leases")
        self._drivers = dict(drivers)
        self._locks = [threading.Lock() for _ in range(LOCKS)]
        self._init_lock = threading.Lock()
        self._initialised = False
        self._ours: set[str] = set()  # containers whose lease this process has made

    def init(self, containers: Mapping[str, int | None], *, exact: bool = True) -> Bridge:
        """Carry out `InitNetworkDriver`. What cannot be put right for one container is logged, and stops nothing."""
        with _errors("init_networkdriver"):
            bridge = self._init_drivers()
            for lease in self._leases.all():
                newer = not exact and lease.container in self._ours
                wanted = newer or containers.get(lease.container, 0) in (lease.generation, None)
                self._reconcile(lease, wanted=wanted)
            for path in self._namespaces.iterdir():
                with self._locks[hash(path.name) % LOCKS]:
                    if self._leases.get(path.name) is None:
                        log.info("stray namespace removed container=%s", path.name)
                        remove(path)
            for driver in self._drivers.values():
                driver.sweep(self._leases.all)
        return bridge

    def _init_drivers(self) -> Bridge:
        with self._init_lock:
            bridges = {}
            for mode, driver in self._drivers.items():
                leases = [lease for lease in self._leases.all() if lease.interface.mode == mode]
                bridges[mode] = driver.init(leases)
            self._initialised = True
        return bridges.get("bridge") or bridges["none"]

    def _reconcile(self, lease: Lease, *, wanted: bool) -> None:
        try:
            with self._locked(lease.container), _errors(lease.container):
                if self._leases.get(lease.container) != lease:
                    return  # changed by a job meanwhile
                if wanted:
                    self._connect(lease)
                else:
                    log.info("stale lease removed container=%s generation=%d", lease.container, lease.generation)
                    self._release(lease)
        except DockyardError as error:
            log.error("network cannot be reconciled container=%s error=%s", lease.container, error)

    def allocate(self, job: AllocateInterface) -> Interface:
        """Carry out `AllocateInterface`."""
        driver = self._drivers.get(job.mode)
        if driver is None:
            raise InvalidArgument(f"network mode {job.mode!r} is unknown, or disabled by the configuration")
        with self._locked(job.container), _errors(job.container):
            self._ensure_initialised()
            lease = self._leases.get(job.container)
            if lease is not None and lease.generation > job.generation:
                raise Conflict(f"container {job.container} has a newer interface, of generation {lease.generation}")
            if lease is not None and lease.generation == job.generation:
                self._connect(lease)
                return lease.interface
            if lease is not None:
                self._release(lease)
            return self._allocate(job, driver).interface

    def _allocate(self, job: AllocateInterface, driver: Driver) -> Lease:
        interface = msgspec.structs.replace(driver.reserve(job), netns=str(self._path(job.container)))
        lease = Lease(container=job.container, generation=job.generation, interface=interface)
        try:
            self._ours.add(lease.container)
            self._leases.put(lease)
            self._connect(lease)
        except Exception:
            self._release(lease)
            raise
        return lease

    def _connect(self, lease: Lease) -> None:
        """Have namespace and links as the lease says; do nothing where they are."""
        driver, path = self._driver(lease), self._path(lease.container)
        if not (exists(path) and driver.is_connected(lease)):
            with open_namespace(path) as namespace:
                driver.connect(lease, namespace)

    def release(self, container: str, generation: int | None) -> None:
        """Carry out `ReleaseInterface`."""
        with self._locked(container), _errors(container):
            self._ensure_initialised()
            lease = self._leases.get(container)
            if lease is not None and generation in (None, lease.generation):
                self._release(lease)

    def _release(self, lease: Lease) -> None:
        """The lease goes last, so that a release cut short is made again."""
        self._driver(lease).disconnect(lease)
        remove(self._path(lease.container))
        self._leases.drop(lease.container)
        self._ours.discard(lease.container)

    def publish(self, job: AllocatePort) -> AllocatedPort:
        """Carry out `AllocatePort`; a port that the container has already is returned again."""
        wanted = request(str(job.container_port), job.protocol, job.host_ip or self._default_ip, job.host_port)
        with self._locked(job.container), _errors(job.container):
            self._ensure_initialised()
            lease = self._leases.get(job.container)
            if lease is None:
                raise NotFound(f"container {job.container} has no interface")
            driver = self._driver(lease)
            port = next(filter(wanted.is_met_by, lease.interface.ports), None)
            if port is None:
                port = driver.reserve_port(wanted)
                interface = msgspec.structs.replace(lease.interface, ports=[*lease.interface.ports, port])
                lease = msgspec.structs.replace(lease, interface=interface)
                self._leases.put(lease)
            driver.publish(lease)
            return port

    def link(self, job: LinkContainers) -> None:
        """Carry out `LinkContainers`."""
        if job.action not in ("-I", "-D"):
            raise InvalidArgument(f"link: the action is -I or -D, not {job.action!r}")
        for address in (job.parent_ip, job.child_ip):
            if not any(address == lease.interface.address for lease in self._leases.all()) and not job.ignore_errors:
                raise InvalidArgument(f"link: no container has the address {address}")
        if not self._icc:
            raise NotImplementedByUs(
                "links between containers that may not talk to each other (icc) are not implemented"
            )

    def interfaces(self) -> dict[str, Interface]:
        return {lease.container: lease.interface for lease in self._leases.all()}

    def _ensure_initialised(self) -> None:
        """After a restart jobs may come before the engine has said `init_networkdriver` again."""
        if not self._initialised:
            self._init_drivers()

    def _driver(self, lease: Lease) -> Driver:
        """A lease of a mode that is disabled now still has a namespace to take away."""
        return self._drivers.get(lease.interface.mode) or NoneDriver()

    def _path(self, container: str) -> Path:
        return self._namespaces / container

    @contextmanager
    def _locked(self, container: str) -> Iterator[None]:
        if not CONTAINER_ID.fullmatch(container):
            raise InvalidArgument(f"a container's id is 12 to 64 hexadecimal digits, not {container!r}")
        with self._locks[hash(container) % LOCKS]:
            yield


@contextmanager
def _errors(subject: str) -> Iterator[None]:
    """Turn what the kernel or the disk refused into ours."""
    try:
        yield
    except OSError as error:
        raise DockyardError(f"network of {subject}: {error}") from error
