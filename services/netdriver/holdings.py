"""Holdings: what containers hold, lease by lease, and the kernel made to agree with it.

Nothing here locks: whoever calls has the container's lock.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from services.netdriver.addresses import gateway_of
from services.netdriver.driver import Driver
from services.netdriver.leases import Lease, Leases
from services.netdriver.netns import exists, open_namespace, remove
from services.netdriver.networks import Networks
from services.netdriver.none import NoneDriver
from services.netdriver.ports import request, version_of
from services.netdriver.resolvers import Resolvers
from services.netdriver.spares import Spares
from services.netdriver.sysctls import set_sysctls
from shared.protocol import AllocatedPort, AllocatePort, DockyardError, Interface, NotFound

__all__ = ["Holdings"]

log = logging.getLogger("dockyard.netdriver")


class Holdings:
    """``drivers``: network mode → driver; ``namespaces``: the directory of the containers' namespaces."""

    def __init__(
        self,
        leases: Leases,
        drivers: Mapping[str, Driver],
        networks: Networks,
        resolvers: Resolvers,
        namespaces: Path,
    ) -> None:
        self._leases, self._drivers, self._networks = leases, drivers, networks
        self._resolvers, self._namespaces = resolvers, namespaces
        self.ours: set[tuple[str, str]] = set()  # leases that this process has made
        self.spares = Spares()

    def driver(self, lease: Lease) -> Driver:
        """A lease of a mode, or network, that is no more still has a namespace to take away."""
        try:
            if lease.interface.network:
                return self._networks.find(lease.interface.network)
        except NotFound:
            return NoneDriver()
        return self._drivers.get(lease.interface.mode) or NoneDriver()

    def path(self, container: str) -> Path:
        """Return where a container's namespace is mounted."""
        return self._namespaces / container

    def put(self, lease: Lease) -> None:
        """Write a new lease."""
        self.ours.add(lease.key)
        self._leases.put(lease)

    def drop(self, lease: Lease) -> None:
        self._leases.drop(lease)
        self.ours.discard(lease.key)

    def connect(self, lease: Lease) -> None:
        """Have namespace and links as the lease says; do nothing where they are."""
        driver, path = self.driver(lease), self.path(lease.container)
        if not (exists(path) and driver.is_connected(lease)):
            with open_namespace(path, self.spares.take) as namespace:
                driver.connect(lease, namespace)
        set_sysctls(lease)
        if lease.interface.resolver:
            self._resolvers.ensure(lease.container, path)

    def balance(self, container: str) -> None:
        """Have default routes and ports go through the leases that should have them; what is done is no error."""
        leases = self._leases.of(container)
        first = {version: _first(leases, version) for version in (4, 6)}
        ports = list(dict.fromkeys(port for lease in leases for port in lease.interface.ports))
        there: set[AllocatedPort] = set()
        for lease in sorted(leases, key=lambda lease: lease not in first.values()):  # no port is ever nobody's
            mine = [
                port
                for port in ports
                if first[version_of(port)] is lease  # where nobody leads out they stay held where they are
                or (first[version_of(port)] is None and port in lease.interface.ports)
            ]
            if not set(mine) <= set(lease.interface.ports):
                mine = self.driver(lease).adopt(mine)
            there.update(mine)
            changed = msgspec.structs.replace(
                lease,
                default_route=lease is first[4],
                default_route6=lease is first[6],
                interface=msgspec.structs.replace(lease.interface, ports=mine),
            )
            if changed == lease:
                continue
            self._leases.put(changed)
            driver = self.driver(changed)
            driver.publish(changed)  # elsewhere they are published no more: a host port leads to one address
            if changed.default_route or changed.default_route6:
                with open_namespace(self.path(container)) as namespace:
                    driver.lead_out(changed, namespace)
        for lease in leases:
            now = self._leases.get(*lease.key) or lease
            lost = [port for port in lease.interface.ports if port not in now.interface.ports]
            self._withdraw(lease, [port for port in lost if not port.host_port or port not in there])

    def _withdraw(self, lease: Lease, ports: list[AllocatedPort]) -> None:
        """End the rules for ports that are another lease's now, or no more what they were."""
        if ports:
            gone = msgspec.structs.replace(lease.interface, ports=ports)
            self.driver(lease).unpublish(msgspec.structs.replace(lease, interface=gone))

    def publish(self, job: AllocatePort, default_ip: str) -> AllocatedPort:
        """Publish one more port of a container; one that it has already is returned again.

        Errors as `AllocatePort`.
        """
        leases = self._leases.of(job.container)
        lease = next((lease for lease in leases if lease.default_route), None) or next(iter(leases), None)
        if lease is None:
            raise NotFound(f"container {job.container} has no interface")
        versions = [v for v, address in ((4, lease.interface.address), (6, lease.interface.address6)) if address]
        wanted = request(
            str(job.container_port),
            job.protocol,
            job.host_ip or default_ip,
            job.host_port,
            versions or (4,),
            given=bool(job.host_ip),
        )
        driver = self.driver(lease)
        port = next(filter(wanted.is_met_by, lease.interface.ports), None)
        if port is None:
            ports = driver.reserve_ports(wanted)
            port = ports[0]
            interface = msgspec.structs.replace(lease.interface, ports=[*lease.interface.ports, *ports])
            lease = msgspec.structs.replace(lease, interface=interface)
            self._leases.put(lease)
        driver.publish(lease)
        return port

    def leave(self, lease: Lease) -> None:
        """Take one network from a container that goes on; what it published is published through another."""
        rest = [one for one in self._leases.of(lease.container) if one.key != lease.key]
        lease = self._bequeath(lease, rest)
        self.driver(lease).disconnect(lease)
        self.driver(lease).detach(lease)
        if not rest:  # its namespace stays
            empty = Interface(mode="none", netns=lease.interface.netns)
            self.put(Lease(container=lease.container, generation=lease.generation, interface=empty))
        if rest or lease.interface.network:
            self.drop(lease)
        if rest:
            self.balance(lease.container)

    def _bequeath(self, lease: Lease, rest: list[Lease]) -> Lease:
        """Give a lease's ports to those who lead out after it; returns it with those that nobody took."""
        kept = lease.interface.ports
        for version in (4, 6):
            ports = [port for port in kept if version_of(port) == version]
            heir = _first(rest, version)
            if heir is None or not ports:
                continue
            heir = self._leases.get(*heir.key) or heir
            try:
                adopted = self.driver(heir).adopt([*heir.interface.ports, *ports])
            except DockyardError as error:
                log.warning("ports are published no more container=%s error=%s", heir.container, error)
                continue
            heir = msgspec.structs.replace(heir, interface=msgspec.structs.replace(heir.interface, ports=adopted))
            self._leases.put(heir)
            self.driver(heir).publish(heir)
            self._withdraw(lease, [port for port in ports if not port.host_port or port not in adopted])
            kept = [port for port in kept if port not in ports]
        if kept == lease.interface.ports:
            return lease
        return msgspec.structs.replace(lease, interface=msgspec.structs.replace(lease.interface, ports=kept))

    def release(self, container: str) -> None:
        """Give back all. The leases go last, so that a release cut short is made again."""
        leases = self._leases.of(container)
        for lease in leases:
            self.driver(lease).disconnect(lease)
        self._resolvers.drop(container)
        remove(self.path(container))
        for lease in leases:
            self.drop(lease)


def _first(leases: list[Lease], version: int) -> Lease | None:
    """Return the lease that is to have IPv4's, or IPv6's, way out and ports: by priority, then the network's name."""
    leading = (lease for lease in leases if gateway_of(lease.interface, version))
    return min(leading, key=lambda lease: (-lease.gw_priority, lease.network_name), default=None)
