"""LinkDriver: macvlan and ipvlan. A container's link is on one of the host's, beside its own; no bridge, no rules."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from errno import EEXIST, EOPNOTSUPP
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

import msgspec

from services.netdriver import veth
from services.netdriver.addresses import Addresses, interface_addresses, mac_of, unicast_mac
from services.netdriver.host import Host
from services.netdriver.leases import Lease
from services.netdriver.netlink import Rtnl, add_address, delete_link, get_link, set_link
from services.netdriver.netns import Namespace, inside
from services.netdriver.ports import Request
from services.netdriver.resolvers import RESOLVER
from services.netdriver.sublinks import add_link_on
from shared.protocol import (
    AllocatedPort,
    AllocateInterface,
    Bridge,
    BridgeNetwork,
    Conflict,
    Interface,
    InvalidArgument,
    NotImplementedByUs,
)

__all__ = ["LinkDriver"]

TRIAL = "dyvtrial"  # the name of a link that is made to see whether the kernel can
log = logging.getLogger("dockyard.netdriver")


class LinkDriver:
    """The `Driver` of a macvlan or ipvlan ``network``, whose fields are complete. Thread-safe."""

    external = True

    def __init__(self, network: BridgeNetwork) -> None:
        self.network = network
        self._addresses = Addresses()

    @property
    def name(self) -> str:
        return self.network.parent

    @property
    def subnets(self) -> list[str]:
        return [text for text in (self.network.subnet, self.network.subnet6) if text]

    def check(self) -> None:
        """Raises InvalidArgument (no such parent, or it is taken), NotImplementedByUs (the kernel lacks the driver)."""
        network = self.network
        try:
            with Rtnl() as host:
                parent = host.get(get_link(network.parent))
                host.run(self._link(parent["index"], TRIAL))
                host.run(delete_link(TRIAL))
        except OSError as error:
            if error.errno == EOPNOTSUPP:
                raise NotImplementedByUs(f"this host's kernel has no {network.driver}") from error
            if error.errno != EEXIST:
                why = f"{network.driver} on parent interface {network.parent}: {error.strerror}"
                raise InvalidArgument(why) from error

    def _link(self, parent: int, name: str, **options: Any) -> Any:
        network = self.network
        kind, mode, flag = network.driver, network.mode, network.ipvlan_flag
        return add_link_on(parent, name, kind=kind, mode=mode, flag=flag, **options)

    def init(self, leases: Sequence[Lease], host: Host | None = None) -> Bridge:
        network = self.network
        gateways = {
            version: ip_interface(f"{gateway}/{subnet.partition('/')[2]}")
            for version, gateway, subnet in (
                (4, network.gateway, network.subnet),
                (6, network.gateway6, network.subnet6),
            )
            if subnet
        }
        parts = {
            4: ip_network(network.ip_range) if network.ip_range else None,
            6: ip_network(network.ip_range6) if network.ip_range6 else None,
        }
        held = [one for lease in leases for one in (lease.interface.address, lease.interface.address6)]
        self._addresses.set_up(gateways, parts, held, network.auxiliary.values())
        return Bridge(name=network.parent, address="", subnet=network.subnet, mtu=0)

    def reserve(self, job: AllocateInterface) -> Interface:
        mac_address = unicast_mac(job.mac_address)
        given = self._addresses.allocate(job)
        return msgspec.structs.replace(
            self._addresses.interface(given, external=not self.network.internal),
            mode=self.network.driver,
            network=job.network,
            mac_address=mac_address or mac_of(given),
            link_local=job.link_local,
            resolver=RESOLVER,
        )

    def reserve_ports(self, wanted: Request) -> list[AllocatedPort]:
        raise Conflict(f"a {self.network.driver} network publishes no ports: its containers are on the parent's")

    def adopt(self, ports: Sequence[AllocatedPort]) -> list[AllocatedPort]:
        return list(ports)

    def connect(self, lease: Lease, namespace: Namespace) -> None:
        interface, index = lease.interface, veth.inner_index(lease)
        with Rtnl() as host:
            parent = host.get(get_link(self.network.parent))
            with suppress(FileExistsError):
                host.run(
                    self._link(
                        parent["index"],
                        interface.name,
                        mac_address=interface.mac_address,
                        index=index,
                        netns=namespace.fd,
                    )
                )
        addresses = interface_addresses(interface)
        if any(":" in one for one in addresses):
            veth.enable_ipv6(lease, advertisements=True)
        given = [add_address(index, ip_interface(one)) for one in addresses]
        namespace.rtnl.run(set_link(interface.name, up=True), *given, *veth.routes(lease))

    def lead_out(self, lease: Lease, namespace: Namespace) -> None:
        veth.lead_out(lease, namespace)

    def publish(self, lease: Lease) -> None:
        pass

    def unpublish(self, lease: Lease) -> None:
        pass

    def is_connected(self, lease: Lease) -> bool:
        def is_up() -> bool:
            with Rtnl() as rtnl:
                return veth.is_up(rtnl, lease.interface.name)

        return inside(Path(lease.interface.netns), is_up)

    def disconnect(self, lease: Lease) -> None:
        """Cut it off at once, even if a process keeps the namespace."""
        self.detach(lease)
        self._addresses.release((lease.interface.address, lease.interface.address6))

    def detach(self, lease: Lease) -> None:
        def delete() -> None:
            with Rtnl() as rtnl, suppress(OSError):
                rtnl.run(delete_link(lease.interface.name))

        with suppress(OSError):  # the namespace is gone, and the link with it
            inside(Path(lease.interface.netns), delete)

    def sweep(self, leases: Callable[[], Sequence[Lease]]) -> None:
        pass  # a link goes with its namespace

    def remove(self) -> None:
        pass
