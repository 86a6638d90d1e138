"""BridgeDriver: a veth pair to a bridge from each container, addresses of its subnets, published ports by nftables."""

from __future__ import annotations

import dataclasses
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from errno import ENODEV
from ipaddress import IPv6Network, ip_interface, ip_network

import msgspec

from services.netdriver import veth
from services.netdriver.addresses import Addresses, address_of, mac_of, unicast_mac
from services.netdriver.firewall import Firewall
from services.netdriver.host import Host, Plan, close_loopback, ensure_bridge, is_shared, ports_of
from services.netdriver.ingress import watch_port
from services.netdriver.ipam import InterfaceAddress
from services.netdriver.leases import Lease
from services.netdriver.netlink import Rtnl, delete_link
from services.netdriver.netns import Namespace
from services.netdriver.ports import HostPorts, Request, parse, request_again, version_of
from services.netdriver.resolvers import RESOLVER
from services.netdriver.rules import Policy, Zone
from shared.protocol import (
    AllocatedPort,
    AllocateInterface,
    Bridge,
    BridgeNetwork,
    DockyardError,
    Interface,
    InvalidArgument,
)
from shared.runtime.config import Config

__all__ = ["BridgeDriver", "gateways_of"]

log = logging.getLogger("dockyard.netdriver")


class BridgeDriver:
    """The `Driver` of one bridge: the default one, or a user-defined ``network``'s. Thread-safe.

    ``config`` says how that bridge is to be; ``ports`` are shared by all bridges of a host.
    """

    def __init__(
        self,
        config: Config,
        firewall: Firewall,
        network: BridgeNetwork | None = None,
        ports: HostPorts | None = None,
    ) -> None:
        self._config, self._firewall, self.network = config, firewall, network
        self._ports = ports or HostPorts()
        self._addresses = Addresses()  # none until `init`
        self._mtu = 0
        # isolated ports do not reach each other; hairpin: a container reaches its own published port where
        # br_netfilter has bridged packets redirected
        self._port_flags = {"IFLA_BRPORT_ISOLATED": int(not config.icc), "IFLA_BRPORT_MODE": 1}
        self._lock = threading.Lock()

    def sibling(self, network: BridgeNetwork) -> BridgeDriver:
        """Return the driver of a user-defined network, whose fields are complete."""
        config = dataclasses.replace(
            self._config,
            bridge=network.bridge,
            bip=_with_length(network.gateway, network.subnet),
            fixed_cidr=network.ip_range,
            ipv6=network.ipv6,
            bip6=_with_length(network.gateway6, network.subnet6),
            fixed_cidr_v6=network.ip_range6,
            icc=network.icc,
            ip=network.host_ip or self._config.ip,
            mtu=network.mtu,
        )
        return BridgeDriver(config, self._firewall, network, self._ports)

    @property
    def name(self) -> str:
        """Name the bridge."""
        return self._config.bridge

    @property
    def external(self) -> bool:
        return self.network is None or not self.network.internal

    @property
    def enforces(self) -> bool:
        """Tell whether there are rules: without them no network is isolated from another."""
        return self._firewall.enabled

    @property
    def subnets(self) -> list[str]:
        """List the networks that the bridge has addresses in."""
        return [str(gateway.network) for gateway in self._addresses.gateways.values()]

    def remove(self) -> None:
        """Remove bridge and rules for good; what is not there is no error. Raises NftError, OSError."""
        self._firewall.remove_zone(self.name)
        try:
            with Rtnl() as host:
                host.run(delete_link(self.name))
        except OSError as error:
            if error.errno != ENODEV:
                raise

    def depart(self) -> None:
        """Remove the bridge if it is ours alone; one that somebody else has made, or has links on, stays as it was.

        Raises NftError, OSError.
        """
        if is_shared(self.name, veth.PREFIX):
            self._firewall.remove_zone(self.name)
            close_loopback(self.name)
        else:
            self.remove()

    def init(self, leases: Sequence[Lease], host: Host | None = None) -> Bridge:
        held = [lease.interface for lease in leases]
        with self._lock:
            known = [*self._addresses.gateways.values(), *(one for interface in held for one in gateways_of(interface))]
            bridge = ensure_bridge(self._config, self._plan(known), host)
            gateways = {
                version: ip_interface(text) for version, text in ((4, bridge.address), (6, bridge.address6)) if text
            }
            gateways = dict(sorted({**gateways, **self._elsewhere()}.items()))
            if not self._addresses.gateways:
                names = {name for _, name in socket.if_nameindex()} if leases else set()
                for lease in leases:
                    self._hold_again(lease)
                    if veth.veth_name(lease) in names:  # an earlier release may have made it
                        self._watch(lease)
            config = self._config
            parts = {
                4: ip_network(config.fixed_cidr) if config.fixed_cidr else None,
                6: ip_network(config.fixed_cidr_v6) if config.fixed_cidr_v6 else None,
            }
            others = self.network.auxiliary.values() if self.network else ()
            taken = [*(one.address for one in held), *(one.address6 for one in held)]
            self._addresses.set_up(gateways, parts, taken, others)
            self._mtu = bridge.mtu
            subnets = tuple(gateway.network for gateway in gateways.values())
            self._firewall.put_zone(Zone(self.name, subnets, self._policy()))
        return bridge

    def _plan(self, known: Sequence[InterfaceAddress]) -> Plan:
        config, given = self._config, dict[int, InterfaceAddress | None]()
        addressed = self.network.is_addressed if self.network else lambda version: True
        if (self.network is None or self.network.ipv4) and addressed(4):
            given[4] = ip_interface(config.bip) if config.bip else None
        if config.ipv6 and addressed(6):
            given[6] = ip_interface(config.bip6) if config.bip6 else None
        return Plan(given, known, IPv6Network(config.fixed_cidr_v6) if config.fixed_cidr_v6 else None)

    def _elsewhere(self) -> dict[int, InterfaceAddress]:
        """Return the gateways that the bridge has no address for; where there is none, the subnet's stands for it."""
        network = self.network
        if network is None:
            return {}
        known = ((4, network.gateway, network.subnet), (6, network.gateway6, network.subnet6))
        return {
            version: ip_interface(_with_length(gateway, subnet) or subnet)
            for version, gateway, subnet in known
            if subnet and not network.is_addressed(version)
        }

    def _policy(self) -> Policy:
        config, network = self._config, self.network
        if network is None:
            return Policy(ip_masq=config.ip_masq, icc=config.icc, ip_masq6=config.ip_masq)
        leaves_as = (network.leaves_as, network.leaves_as6)
        modes = (network.gateway_mode, network.gateway_mode6)
        trusted = tuple(network.trusted)
        return Policy(network.ip_masq, network.icc, network.internal, network.ip_masq6, leaves_as, modes, trusted)

    def _hold_again(self, lease: Lease) -> None:
        for port in lease.interface.ports:
            try:
                self._ports.restore(port)
            except DockyardError as error:
                log.warning("published port is no longer ours alone port=%d error=%s", port.host_port, error)
        self.publish(lease)

    def reserve(self, job: AllocateInterface) -> Interface:
        mac_address = unicast_mac(job.mac_address)
        given = self._addresses.allocate(job)
        try:
            ports = self._hold(parse(job.ports, self._config.ip, self._addresses.versions))
        except DockyardError:
            self._addresses.release(str(address) for address in given.values())
            raise
        return msgspec.structs.replace(
            self._addresses.interface(given, external=self.external),
            network=job.network,
            mac_address=mac_address or mac_of(given),
            link_local=job.link_local,
            ports=ports,
            resolver=RESOLVER if self.network else "",
        )

    def reserve_ports(self, wanted: Request) -> list[AllocatedPort]:
        return self._hold([wanted])

    def _hold(self, wanted: Sequence[Request]) -> list[AllocatedPort]:
        if wanted and not self._firewall.enabled:
            raise InvalidArgument("a port cannot be published without rules: firewall = false")
        routed = self._routed
        mapped = [rest for one in wanted if (rest := one.without(routed))]
        return [*self._ports.hold(mapped), *(port for one in wanted for port in one.let_through(routed))]

    @property
    def _routed(self) -> list[int]:
        return [version for version in (4, 6) if self.network and self.network.mode_of(version) == "routed"]

    def adopt(self, ports: Sequence[AllocatedPort]) -> list[AllocatedPort]:
        kept = [port for port in ports if (not port.host_port) is (version_of(port) in self._routed)]
        others = [port for port in ports if port not in kept]
        wanted = [one for one in map(request_again, others) if not any(map(one.is_met_by, kept))]
        given = self._hold(list(dict.fromkeys(wanted)))
        self._ports.release(others)
        return list(dict.fromkeys([*kept, *given]))

    def connect(self, lease: Lease, namespace: Namespace) -> None:
        self.publish(lease)
        with Rtnl() as host:
            veth.attach(host, lease, namespace, master=self._master(), mtu=self._mtu, flags=self._port_flags)
        self._watch(lease)

    def _watch(self, lease: Lease) -> None:
        by_the_host = {} if self._config.icc else {"bridge": self.name, "mac_address": lease.interface.mac_address}
        if self._firewall.enabled:  # else nothing leads to 127.0.0.1, and the kernel keeps it shut
            watch_port(veth.veth_name(lease), **by_the_host)

    def lead_out(self, lease: Lease, namespace: Namespace) -> None:
        veth.lead_out(lease, namespace)

    def publish(self, lease: Lease) -> None:
        if lease.interface.ports:
            self._firewall.publish(_targets(lease), admit=bool(self.network and self.network.trusted))

    def unpublish(self, lease: Lease) -> None:
        self._firewall.unpublish(_targets(lease))

    def is_connected(self, lease: Lease) -> bool:
        with Rtnl() as host:
            return veth.is_up(host, veth.veth_name(lease), master=self._master())

    def disconnect(self, lease: Lease) -> None:
        interface = lease.interface
        self.unpublish(lease)
        self._firewall.unlink(interface.address)
        self._ports.release(interface.ports)
        veth.cut(lease)
        self._addresses.release((interface.address, interface.address6))

    def detach(self, lease: Lease) -> None:
        veth.remove_pair(veth.veth_name(lease))

    def sweep(self, leases: Callable[[], Sequence[Lease]]) -> None:
        # a link that is down was released, or never finished, and goes with its namespace
        found = ports_of(self.name, veth.PREFIX)
        wanted = {veth.veth_name(lease) for lease in leases()}
        for name in found:
            if name not in wanted:
                log.info("stray link removed link=%s", name)
                veth.remove_pair(name)

    def _master(self) -> int:
        """Return the bridge's index; make it again if somebody removed it."""
        try:
            return socket.if_nametoindex(self.name)
        except OSError:
            log.warning("bridge vanished, making it again bridge=%s", self.name)
            self.init(())
            return socket.if_nametoindex(self.name)


def _targets(lease: Lease) -> dict[AllocatedPort, str]:
    """Return a lease's ports, each with the address that it leads to."""
    found = {port: address_of(lease.interface, version_of(port)) for port in lease.interface.ports}
    return {port: address for port, address in found.items() if address}


def gateways_of(interface: Interface) -> list[InterfaceAddress]:
    """Return the gateways of an interface that has some, each with its network."""
    lengths = {4: interface.prefix_len, 6: interface.prefix_len6}
    found = [(4, interface.gateway), (6, interface.gateway6)]
    return [ip_interface(f"{gateway}/{lengths[version]}") for version, gateway in found if gateway]


def _with_length(address: str, subnet: str) -> str:
    return f"{address}/{subnet.partition('/')[2]}" if address else ""
