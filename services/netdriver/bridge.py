"""BridgeDriver: a veth pair from each container to a bridge, addresses from its subnet, published ports by nftables."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import re
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from errno import ENODEV
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network

from services.netdriver.defaultbridge import ensure_bridge, ports_of
from services.netdriver.firewall import Firewall, Policy
from services.netdriver.ipam import Pool
from services.netdriver.leases import Lease
from services.netdriver.netlink import (
    IFF_UP,
    Rtnl,
    add_address,
    add_default_route,
    add_veth,
    delete_link,
    get_link,
    set_link,
)
from services.netdriver.netns import OWN, Namespace
from services.netdriver.ports import HostPorts, Request, parse
from services.netdriver.resolvers import RESOLVER
from shared.protocol import (
    AllocatedPort,
    AllocateInterface,
    Bridge,
    BridgeNetwork,
    Conflict,
    DockyardError,
    Interface,
    InvalidArgument,
)
from shared.runtime.config import Config

__all__ = ["BridgeDriver", "veth_name"]

PREFIX = "dyv"
ETH0_INDEX = 100  # known beforehand, and clear of the tunl0, gre0, sit0 … that some kernels put into every namespace
UNICAST_MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}", re.IGNORECASE)
log = logging.getLogger("dockyard.netdriver")


def veth_name(lease: Lease) -> str:
    """Name the host end: 15 bytes, IFNAMSIZ's limit. The generation, for a link outlives its release by a moment."""
    whose = lease.container
    if lease.interface.network:
        whose = hashlib.sha256("".join(lease.key).encode()).hexdigest()
    return f"{PREFIX}{whose[:9]}{lease.generation % 0x1000:03x}"


def _index(lease: Lease) -> int:
    """Return the index of the link inside."""
    return ETH0_INDEX + int(lease.interface.name.removeprefix("eth"))


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
        self._pool: Pool | None = None  # until `init`
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
            bip=f"{network.gateway}/{network.subnet.partition('/')[2]}",
            fixed_cidr=network.ip_range,
            icc=network.icc,
            ip=network.host_ip or self._config.ip,
            mtu=network.mtu,
        )
        policy = Policy(ip_masq=network.ip_masq, icc=network.icc, internal=network.internal)
        return BridgeDriver(config, self._firewall.sibling(network.bridge, policy), network, self._ports)

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

    def remove(self) -> None:
        """Remove bridge and rules for good; what is not there is no error. Raises NftError, OSError."""
        self._firewall.remove()
        try:
            with Rtnl() as host:
                host.run(delete_link(self._config.bridge))
        except OSError as error:
            if error.errno != ENODEV:
                raise

    def init(self, leases: Sequence[Lease]) -> Bridge:
        held = [lease.interface for lease in leases]
        with self._lock:
            known = self._pool.gateway if self._pool else next(map(_gateway, filter(_has_gateway, held)), None)
            bridge = ensure_bridge(self._config, known)
            gateway = IPv4Interface(bridge.address)
            if self._pool is None:
                for interface in held:
                    self._hold_again(interface)
            if self._pool is None or self._pool.gateway != gateway:
                self._pool = Pool(gateway, IPv4Network(self._config.fixed_cidr) if self._config.fixed_cidr else None)
                others = self.network.auxiliary.values() if self.network else ()
                for address in (*others, *(interface.address for interface in held)):
                    self._pool.claim(IPv4Address(address))
            self._mtu = bridge.mtu
            self._firewall.rebuild(gateway.network)
        return bridge

    def _hold_again(self, interface: Interface) -> None:
        for port in interface.ports:
            try:
                self._ports.restore(port)
            except DockyardError as error:
                log.warning("published port is no longer ours alone port=%d error=%s", port.host_port, error)
        self._firewall.publish(interface.ports, interface.address)

    def reserve(self, job: AllocateInterface) -> Interface:
        if job.mac_address and not UNICAST_MAC.fullmatch(job.mac_address):
            raise InvalidArgument(f"invalid MAC address: {job.mac_address}")
        pool = self._addresses()
        ports = self._hold(parse(job.ports, self._config.ip))
        try:
            address = pool.allocate(_address(job.address))
        except DockyardError:
            self._ports.release(ports)
            raise
        return Interface(
            mode="bridge",
            network=job.network,
            address=str(address),
            prefix_len=pool.gateway.network.prefixlen,
            gateway=str(pool.gateway.ip) if self.external else "",
            # from the address: whoever has the address in his ARP cache has the right MAC address with it
            mac_address=job.mac_address.lower() or "02:42:" + address.packed.hex(":"),
            ports=ports,
            resolver=RESOLVER if self.network else "",
        )

    def reserve_port(self, wanted: Request) -> AllocatedPort:
        (port,) = self._hold([wanted])
        return port

    def _hold(self, wanted: Sequence[Request]) -> list[AllocatedPort]:
        if wanted and not self._firewall.enabled:
            raise InvalidArgument("a port cannot be published without rules: firewall = false")
        return self._ports.hold(wanted)

    def connect(self, lease: Lease, namespace: Namespace) -> None:
        self.publish(lease)
        name = veth_name(lease)
        with Rtnl() as host:
            try:
                self._add_link(lease, namespace)
            except FileExistsError:
                if not self._is_up(host, name):  # half made by a process that was killed, or a release's last moment
                    with suppress(OSError):
                        host.run(delete_link(name))
                    self._add_link(lease, namespace)
            # last, for `is_connected` goes by it
            host.run(set_link(name, master=self._master()), set_link(name, up=True, port=self._port_flags))

    def _add_link(self, lease: Lease, namespace: Namespace) -> None:
        """From inside, in one batch. Raises FileExistsError if either end is there."""
        interface, index = lease.interface, _index(lease)
        leads_out = lease.default_route and interface.gateway
        home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
        try:
            namespace.rtnl.run(
                add_veth(
                    interface.name,
                    index=index,
                    mtu=self._mtu,
                    mac_address=interface.mac_address,
                    peer=veth_name(lease),
                    peer_netns=home,
                ),
                set_link(interface.name, up=True),
                add_address(index, IPv4Interface(f"{interface.address}/{interface.prefix_len}")),
                *([add_default_route(index, IPv4Address(interface.gateway))] if leads_out else []),
            )
        finally:
            os.close(home)

    def lead_out(self, lease: Lease, namespace: Namespace) -> None:
        namespace.rtnl.run(add_default_route(_index(lease), IPv4Address(lease.interface.gateway)))

    def publish(self, lease: Lease) -> None:
        if lease.interface.ports:
            self._firewall.publish(lease.interface.ports, lease.interface.address)

    def unpublish(self, lease: Lease) -> None:
        self._firewall.unpublish(lease.interface.ports)

    def is_connected(self, lease: Lease) -> bool:
        with Rtnl() as host:
            return self._is_up(host, veth_name(lease), master=self._master())

    def disconnect(self, lease: Lease) -> None:
        interface = lease.interface
        self._firewall.unpublish(interface.ports)
        self._ports.release(interface.ports)
        try:
            with Rtnl() as host:  # cuts it off at once, even if a process keeps the namespace
                host.run(set_link(veth_name(lease), up=False))
        except OSError as error:
            if error.errno != ENODEV:
                raise
        self._addresses().release(IPv4Address(interface.address))

    def detach(self, lease: Lease) -> None:
        with Rtnl() as host, suppress(OSError):  # it may be on its way out, with its namespace
            host.run(delete_link(veth_name(lease)))

    def sweep(self, leases: Callable[[], Sequence[Lease]]) -> None:
        # a link that is down was released, or never finished, and goes with its namespace
        found = ports_of(self._config.bridge, PREFIX)
        wanted = {veth_name(lease) for lease in leases()}
        for name in found:
            if name not in wanted:
                log.info("stray link removed link=%s", name)
                with Rtnl() as host, suppress(OSError):  # it may be on its way out
                    host.run(delete_link(name))

    def _addresses(self) -> Pool:
        if self._pool is None:
            raise Conflict("the network driver is not initialised")
        return self._pool

    def _master(self) -> int:
        """Return the bridge's index; make it again if somebody removed it."""
        try:
            return socket.if_nametoindex(self._config.bridge)
        except OSError:
            log.warning("bridge vanished, making it again bridge=%s", self._config.bridge)
            self.init(())
            return socket.if_nametoindex(self._config.bridge)

    def _is_up(self, host: Rtnl, name: str, master: int | None = None) -> bool:
        try:
            (link,) = host.get(get_link(name))
        except OSError as error:
            if error.errno == ENODEV:
                return False
            raise
        return bool(link["flags"] & IFF_UP) and master in (None, link.get_attr("IFLA_MASTER"))


def _has_gateway(interface: Interface) -> bool:
    return bool(interface.gateway)


def _address(text: str) -> IPv4Address | None:
    """Read the address that is asked for, if one is. Raises InvalidArgument."""
    try:
        return IPv4Address(text) if text else None
    except AddressValueError:
        raise InvalidArgument(f"invalid IPv4 address: {text}") from None


def _gateway(interface: Interface) -> IPv4Interface:
    return IPv4Interface(f"{interface.gateway}/{interface.prefix_len}")
