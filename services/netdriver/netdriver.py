"""NetDriver: the leases' life. It decides what a container holds; a `Driver` for each network mode makes it so."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from services.netdriver import ifnames
from services.netdriver.bridge import BridgeDriver
from services.netdriver.driver import Driver
from services.netdriver.firewall import Firewall
from services.netdriver.holdings import Holdings
from services.netdriver.leases import Lease, Leases
from services.netdriver.links import Links
from services.netdriver.netns import remove
from services.netdriver.networks import Networks
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

    def __init__(self, config: Config, drivers: Mapping[str, Driver], firewall: Firewall) -> None:
        self._default_ip = config.ip
        self._namespaces = config.run / "netns"
        self._namespaces.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._leases = Leases(config.run / "leases")
        self._drivers, self.firewall = dict(drivers), firewall
        default = self._drivers.get("bridge")
        bridge = default if isinstance(default, BridgeDriver) else BridgeDriver(config, firewall)
        self._networks = Networks(config.run / "networks", config.default_address_pools, bridge)
        self.resolvers = Resolvers(config.run)
        self._held = Holdings(self._leases, self._drivers, self._networks, self.resolvers, self._namespaces)
        self.spares = self._held.spares
        self._links = Links(self._leases, firewall, icc=config.icc, locked=self._locked)
        self._locks = [threading.Lock() for _ in range(LOCKS)]
        self._init_lock = threading.Lock()
        self._initialised = False

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
            self._links.restore(leases)
            self.firewall.rebuild()
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
                    if (not exact and lease.key in self._held.ours)
                    or (
                        generation in (lease.generation, None)
                        and (
                            connected is None or lease.interface.network in connected or lease.interface.mode == "none"
                        )
                    )
                ]
                if not wanted:
                    log.info("stale leases removed container=%s", container)
                    self._held.release(container)
                    return
                for lease in leases:
                    if lease not in wanted:
                        log.info("stale lease removed container=%s network=%s", *lease.key)
                        self._held.leave(lease)
                for lease in wanted:
                    self._held.connect(lease)
                self._held.balance(container)
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
                self._held.release(job.container)
                there = []
            lease = self._leases.get(job.container, job.network)
            if lease is not None and lease.interface.mode == job.mode:
                return self._again(lease, job)
            return self._allocate(job, driver, there)

    def _again(self, lease: Lease, job: AllocateInterface) -> Interface:
        renamed = msgspec.structs.replace(lease, names=job.names, links=job.links)
        if renamed != lease:
            self._leases.put(renamed)
        self._held.ours.add(lease.key)
        self._held.connect(renamed)
        return renamed.interface

    def _allocate(self, job: AllocateInterface, driver: Driver, there: list[Lease]) -> Interface:
        """``there``: what the container has already, in other networks, or in none."""
        others = [lease for lease in there if lease.interface.mode != "none"]
        published = any(lease.interface.ports for lease in others)
        if published or not driver.external:
            job = msgspec.structs.replace(job, ports={})
        with self._networks.kept(job.network):
            taken = {lease.interface.name for lease in others}
            name = ifnames.choose(job.ifname, self._networks.iface_prefix(job.network), taken)
            given = driver.reserve(job)
            netns = str(self._held.path(job.container))
            given = msgspec.structs.replace(given, netns=netns, name=name if given.placed else "")
            lease = Lease(
                container=job.container,
                generation=job.generation,
                interface=given,
                network_name=self._networks.name_of(job.network) or "bridge",
                gw_priority=job.gw_priority,
                default_route=not any(lease.default_route for lease in others),
                default_route6=not any(lease.default_route6 and lease.interface.gateway6 for lease in others),
                names=job.names,
                links=job.links,
                dns=job.dns,
                sysctls=job.sysctls,
            )
            try:
                self._held.put(lease)
            except Exception:
                driver.disconnect(lease)
                raise
        try:
            self._held.connect(lease)
            for placeholder in there:
                if placeholder not in others and placeholder.key != lease.key:
                    self._held.drop(placeholder)
            if others:
                self._held.balance(job.container)
        except Exception:
            self._held.leave(lease)
            if not there:
                self._held.release(job.container)
            raise
        return (self._leases.get(*lease.key) or lease).interface

    def release(self, container: str, generation: int | None, network: str | None = None) -> None:
        """Carry out `ReleaseInterface`."""
        with self._locked(container), _errors(container):
            self._ensure_initialised()
            leases = self._leases.of(container)
            if not leases or generation not in (None, leases[0].generation):
                return
            if network is None:
                self._held.release(container)
                return
            lease = self._leases.get(container, network)
            if lease is not None:
                self._held.leave(lease)

    def publish(self, job: AllocatePort) -> AllocatedPort:
        """Carry out `AllocatePort`; a port that the container has already is returned again."""
        with self._locked(job.container), _errors(job.container):
            self._ensure_initialised()
            return self._held.publish(job, self._default_ip)

    def link(self, job: LinkContainers) -> None:
        """Carry out `LinkContainers`."""
        with _errors(f"link of {job.parent_ip}"):
            self._links.change(job)

    def interfaces(self, container: str = "") -> dict[str, list[Interface]]:
        """Carry out `ListInterfaces`."""
        wanted = [container] if container else {lease.container for lease in self._leases.all()}
        found = {one: [lease.interface for lease in self._leases.of(one)] for one in wanted}
        return {one: interfaces for one, interfaces in found.items() if interfaces}

    def depart(self) -> None:
        """Leave nothing in the kernel, but what somebody else has put there, unless a container holds something.

        What fails is logged, and set right by the next `init`.
        """
        try:
            if self._leases.all():
                return
            for path in self._namespaces.iterdir():
                remove(path)
            self._networks.remove_all([driver.network.id for driver in self._networks if driver.network], lambda: [])
            default = self._drivers.get("bridge")
            if isinstance(default, BridgeDriver):
                default.depart()
            self.firewall.depart()
        except (DockyardError, OSError) as error:
            log.warning("something is left in the kernel error=%s", error)

    def _ensure_initialised(self) -> None:
        """After a restart jobs may come before the engine has said `init_networkdriver` again."""
        if not self._initialised:
            self._init_drivers()

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
