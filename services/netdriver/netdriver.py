"""NetDriver: the leases' life. It decides what a container holds; a `Driver` for each network mode makes it so."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from services.netdriver.bridge import BridgeDriver
from services.netdriver.driver import Driver
from services.netdriver.leases import Lease, Leases
from services.netdriver.netns import exists, open_namespace, remove
from services.netdriver.networks import Networks
from services.netdriver.none import NoneDriver
from services.netdriver.ports import request
from services.netdriver.resolvers import Resolvers
from shared.protocol import (
    AllocatedPort,
    AllocateInterface,
    AllocatePort,
    Bridge,
    BridgeNetwork,
    Conflict,
    DockyardError,
    Interface,
    InvalidArgument,
    LinkContainers,
    MakeNetwork,
    NotFound,
    NotImplementedByUs,
    UnmakeNetwork,
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
        default = self._drivers.get("bridge")
        bridge = default if isinstance(default, BridgeDriver) else None
        self._networks = Networks(config.run / "networks", config.default_address_pools, bridge)
        self.resolvers = Resolvers(config.run)
        self._locks = [threading.Lock() for _ in range(LOCKS)]
        self._init_lock = threading.Lock()
        self._initialised = False
        self._ours: set[tuple[str, str]] = set()  # leases that this process has made

    def init(
        self,
        containers: Mapping[str, int | None],
        networks: Sequence[BridgeNetwork] = (),
        connected: Mapping[str, Sequence[str]] | None = None,
        *,
        exact: bool = True,
    ) -> Bridge:
        """Carry out `InitNetworkDriver`. What cannot be put right for one container is logged, and stops nothing."""
        with _errors("init_networkdriver"):
            known = {driver.network.id for driver in self._networks if driver.network}
            bridge = self._init_drivers()
            self._networks.sync(networks)
            for container in {lease.container for lease in self._leases.all()}:
                connections = (connected or {}).get(container)
                self._reconcile(container, containers.get(container, 0), connections, exact=exact)
            for path in self._namespaces.iterdir():
                with self._locks[hash(path.name) % LOCKS]:
                    if not self._leases.of(path.name):
                        log.info("stray namespace removed container=%s", path.name)
                        remove(path)
            self.resolvers.keep_only({lease.container for lease in self._leases.all()})
            self._networks.remove_all(known - {network.id for network in networks}, self._leases.all)
            for driver in (*self._drivers.values(), *self._networks):
                driver.sweep(self._leases.all)
        return bridge

    def _init_drivers(self) -> Bridge:
        with self._init_lock:
            bridges = {}
            leases = self._leases.all()
            for mode, driver in self._drivers.items():
                own = [lease for lease in leases if lease.interface.mode == mode and not lease.interface.network]
                bridges[mode] = driver.init(own)
            self._networks.init(leases)
            self._initialised = True
        return bridges.get("bridge") or bridges["none"]

    def _reconcile(
        self, container: str, generation: int | None, connected: Sequence[str] | None, *, exact: bool
    ) -> None:
        """Have of a container's leases those of a generation, in the networks that it is in; None: all.

        Unless the list is ``exact`` what this process has given is newer than the list.
        """
        try:
            with self._locked(container), _errors(container):
                leases = self._leases.of(container)
                wanted = [
                    lease
                    for lease in leases
                    if (not exact and lease.key in self._ours)
                    or (
                        generation in (lease.generation, None)
                        and (
                            connected is None or lease.interface.network in connected or lease.interface.mode == "none"
                        )
                    )
                ]
                if not wanted:
                    log.info("stale leases removed container=%s", container)
                    self._release(container)
                    return
                for lease in leases:
                    if lease not in wanted:
                        log.info("stale lease removed container=%s network=%s", *lease.key)
                        self._leave(lease)
                for lease in wanted:
                    self._connect(lease)
                self._balance(container)
        except DockyardError as error:
            log.error("network cannot be reconciled container=%s error=%s", container, error)

    def make_network(self, job: MakeNetwork) -> BridgeNetwork:
        """Carry out `MakeNetwork`."""
        with _errors(f"network {job.network.name}"):
            self._ensure_initialised()
            return self._networks.make(job.network)

    def unmake_network(self, job: UnmakeNetwork) -> None:
        """Carry out `UnmakeNetwork`."""
        with _errors(f"network {job.network}"):
            self._ensure_initialised()
            self._networks.remove(job.network, self._leases.all)

    def allocate(self, job: AllocateInterface) -> Interface:
        """Carry out `AllocateInterface`."""
        driver = self._networks.find(job.network) if job.network else self._drivers.get(job.mode)
        if driver is None:
            raise InvalidArgument(f"network mode {job.mode!r} is unknown, or disabled by the configuration")
        with self._locked(job.container), _errors(job.container):
            self._ensure_initialised()
            there = self._leases.of(job.container)
            newest = max((lease.generation for lease in there), default=0)
            if newest > job.generation:
                raise Conflict(f"container {job.container} has a newer interface, of generation {newest}")
            if there and newest < job.generation:
                self._release(job.container)
                there = []
            lease = self._leases.get(job.container, job.network)
            if lease is not None and lease.interface.mode == job.mode:
                return self._again(lease, job)
            return self._allocate(job, driver, there)

    def _again(self, lease: Lease, job: AllocateInterface) -> Interface:
        renamed = msgspec.structs.replace(lease, names=job.names, links=job.links)
        if renamed != lease:
            self._leases.put(renamed)
        self._ours.add(lease.key)
        self._connect(renamed)
        return renamed.interface

    def _allocate(self, job: AllocateInterface, driver: Driver, there: list[Lease]) -> Interface:
        """``there``: what the container has already, in other networks, or in none."""
        others = [lease for lease in there if lease.interface.mode != "none"]
        published = any(lease.interface.ports for lease in others)
        if published or not driver.external:
            job = msgspec.structs.replace(job, ports={})
        with self._networks.kept(job.network):
            given = driver.reserve(job)
            name = _free_name(others) if given.mode == "bridge" else ""
            given = msgspec.structs.replace(given, netns=str(self._path(job.container)), name=name)
            lease = Lease(
                container=job.container,
                generation=job.generation,
                interface=given,
                network_name=driver.network.name if isinstance(driver, BridgeDriver) and driver.network else "bridge",
                gw_priority=job.gw_priority,
                default_route=not others,
                names=job.names,
                links=job.links,
                dns=job.dns,
            )
            try:
                self._put(lease)
            except Exception:
                driver.disconnect(lease)
                raise
        try:
            self._connect(lease)
            for placeholder in there:
                if placeholder not in others and placeholder.key != lease.key:
                    self._drop(placeholder)
            if others:
                self._balance(job.container)
        except Exception:
            self._leave(lease)
            if not there:
                self._release(job.container)
            raise
        return (self._leases.get(*lease.key) or lease).interface

    def _connect(self, lease: Lease) -> None:
        """Have namespace and links as the lease says; do nothing where they are."""
        driver, path = self._driver(lease), self._path(lease.container)
        if not (exists(path) and driver.is_connected(lease)):
            with open_namespace(path) as namespace:
                driver.connect(lease, namespace)
        if lease.interface.resolver:
            self.resolvers.ensure(lease.container, path)

    def _balance(self, container: str) -> None:
        """Have default route and ports go through the lease that should have them; a step done already is no error."""
        leases = self._leases.of(container)
        first = min((lease for lease in leases if lease.interface.gateway), key=_precedence, default=None)
        ports = list(dict.fromkeys(port for lease in leases for port in lease.interface.ports))
        for lease in sorted(leases, key=lambda lease: lease is not first):  # so that no port is ever nobody's
            leads = lease is first
            interface = msgspec.structs.replace(lease.interface, ports=ports if leads else [])
            changed = msgspec.structs.replace(lease, default_route=leads, interface=interface)
            if changed == lease:
                continue
            driver = self._driver(lease)
            driver.unpublish(lease)
            if first is None:
                continue  # nobody to take the ports over: they stay held
            self._leases.put(changed)
            if leads:
                driver.publish(changed)
                with open_namespace(self._path(container)) as namespace:
                    driver.lead_out(changed, namespace)

    def release(self, container: str, generation: int | None, network: str | None = None) -> None:
        """Carry out `ReleaseInterface`."""
        with self._locked(container), _errors(container):
            self._ensure_initialised()
            leases = self._leases.of(container)
            if not leases or generation not in (None, leases[0].generation):
                return
            if network is None:
                self._release(container)
                return
            lease = self._leases.get(container, network)
            if lease is not None:
                self._leave(lease)

    def _leave(self, lease: Lease) -> None:
        """Take one network from a container that goes on; what it published is published through another."""
        ports = lease.interface.ports
        rest = [one for one in self._leases.of(lease.container) if one.key != lease.key]
        heir = min((one for one in rest if one.interface.gateway), key=_precedence, default=None)
        if heir is not None and ports:
            heritage = msgspec.structs.replace(heir.interface, ports=[*heir.interface.ports, *ports])
            self._leases.put(msgspec.structs.replace(heir, interface=heritage))
            self._driver(lease).unpublish(lease)
            self._driver(heir).publish(msgspec.structs.replace(heir, interface=heritage))
            lease = msgspec.structs.replace(lease, interface=msgspec.structs.replace(lease.interface, ports=[]))
        self._driver(lease).disconnect(lease)
        self._driver(lease).detach(lease)
        if not rest:  # its namespace stays
            empty = Interface(mode="none", netns=lease.interface.netns)
            self._put(Lease(container=lease.container, generation=lease.generation, interface=empty))
        if rest or lease.interface.network:
            self._drop(lease)
        if rest:
            self._balance(lease.container)

    def _release(self, container: str) -> None:
        """The leases go last, so that a release cut short is made again."""
        leases = self._leases.of(container)
        for lease in leases:
            self._driver(lease).disconnect(lease)
        self.resolvers.drop(container)
        remove(self._path(container))
        for lease in leases:
            self._drop(lease)

    def _put(self, lease: Lease) -> None:
        """Write a new lease."""
        self._ours.add(lease.key)
        self._leases.put(lease)

    def _drop(self, lease: Lease) -> None:
        self._leases.drop(lease)
        self._ours.discard(lease.key)

    def publish(self, job: AllocatePort) -> AllocatedPort:
        """Carry out `AllocatePort`; a port that the container has already is returned again."""
        wanted = request(str(job.container_port), job.protocol, job.host_ip or self._default_ip, job.host_port)
        with self._locked(job.container), _errors(job.container):
            self._ensure_initialised()
            leases = self._leases.of(job.container)
            lease = next((lease for lease in leases if lease.default_route), None)
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

    def interfaces(self, container: str = "") -> dict[str, list[Interface]]:
        """Carry out `ListInterfaces`."""
        wanted = [container] if container else {lease.container for lease in self._leases.all()}
        found = {one: [lease.interface for lease in self._leases.of(one)] for one in wanted}
        return {one: interfaces for one, interfaces in found.items() if interfaces}

    def _ensure_initialised(self) -> None:
        """After a restart jobs may come before the engine has said `init_networkdriver` again."""
        if not self._initialised:
            self._init_drivers()

    def _driver(self, lease: Lease) -> Driver:
        """A lease of a mode, or network, that is no more still has a namespace to take away."""
        try:
            if lease.interface.network:
                return self._networks.find(lease.interface.network)
        except NotFound:
            return NoneDriver()
        return self._drivers.get(lease.interface.mode) or NoneDriver()

    def _path(self, container: str) -> Path:
        return self._namespaces / container

    @contextmanager
    def _locked(self, container: str) -> Iterator[None]:
        if not CONTAINER_ID.fullmatch(container):
            raise InvalidArgument(f"a container's id is 12 to 64 hexadecimal digits, not {container!r}")
        with self._locks[hash(container) % LOCKS]:
            yield


def _precedence(lease: Lease) -> tuple[int, str]:
    """Order leases by who has the default route."""
    return -lease.gw_priority, lease.network_name


def _placeholder(lease: Lease) -> tuple[str, ...]:
    """Return the network of a lease that only keeps a namespace: it goes with any."""
    return (lease.interface.network,) if lease.interface.mode == "none" else ()


def _free_name(others: Sequence[Lease]) -> str:
    """Return the first of eth0, eth1 … that none of them has."""
    taken = {lease.interface.name for lease in others}
    return next(name for number in range(len(taken) + 1) if (name := f"eth{number}") not in taken)


@contextmanager
def _errors(subject: str) -> Iterator[None]:
    """Turn what the kernel or the disk refused into ours."""
    try:
        yield
    except OSError as error:
        raise DockyardError(f"network of {subject}: {error}") from error
