"""Addresses: what a network gives its containers, of IPv4, IPv6, or both."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from services.netdriver.ipam import Address, InterfaceAddress, Network, Pool
from shared.protocol import AllocateInterface, Conflict, DockyardError, Interface, InvalidArgument
from shared.runtime.values import parse_mac

__all__ = ["Addresses", "address_of", "gateway_of", "interface_addresses", "mac_of", "unicast_mac"]


class Addresses:
    """A pool for each version. Thread-safe but for `set_up`."""

    def __init__(self) -> None:
        self._pools: dict[int, Pool] = {}

    def set_up(
        self,
        gateways: Mapping[int, InterfaceAddress],
        parts: Mapping[int, Network | None],
        taken: Iterable[str],
        others: Iterable[str] = (),
    ) -> None:
        """Give from the networks of ``gateways``; if they are what they were, all stays as it is.

        A part that is not inside (the bridge kept what it had) counts for nothing. ``others``: addresses of somebody
        else's (auxiliary ones).
        """
        if self.gateways == gateways:
            return
        self._pools = {version: Pool(one, _inside(parts.get(version), one)) for version, one in gateways.items()}
        for pool in self._pools.values():
            pool.set_aside(others)
        self.claim(taken)

    def claim(self, addresses: Iterable[str]) -> None:
        """Take what leases have; empty texts, and addresses of other networks, count for nothing."""
        for address in filter(None, addresses):
            for pool in self._pools.values():
                pool.claim(address)

    @property
    def gateways(self) -> dict[int, InterfaceAddress]:
        return {version: pool.gateway for version, pool in self._pools.items()}

    @property
    def versions(self) -> list[int]:
        return list(self._pools)

    def allocate(self, job: AllocateInterface) -> dict[int, Address]:
        """Take an address of each version, or none at all.

        Raises Conflict (nothing is set up), PermissionDenied, InvalidArgument, DockyardError (no address is left).
        """
        if not self._pools:
            raise Conflict("the network driver is not initialised")
        wanted = {4: _parse(job.address, 4), 6: _parse(job.address6, 6)}
        for version, address in wanted.items():
            if address is not None and version not in self._pools:
                raise InvalidArgument(f"no configured subnet or ip-range contain the IP address {address}")
        given: dict[int, Address] = {}
        try:
            for version, pool in self._pools.items():
                given[version] = pool.allocate(wanted[version])
        except DockyardError:
            self.release(str(address) for address in given.values())
            raise
        return given

    def release(self, addresses: Iterable[str]) -> None:
        """Give addresses back; empty texts are none."""
        for address in filter(None, addresses):
            pool = self._pools.get(ip_address(address).version)
            if pool is not None:
                pool.release(address)

    def interface(self, given: Mapping[int, Address], *, external: bool) -> Interface:
        """Return the part of an interface that is about addresses."""
        pools = self._pools
        fields: dict[str, object] = {}
        for version, address in given.items():
            gateway, end = pools[version].gateway, "" if version == 4 else "6"
            fields[f"address{end}"] = str(address)
            fields[f"prefix_len{end}"] = gateway.network.prefixlen
            fields[f"gateway{end}"] = str(gateway.ip) if external else ""
        return Interface(mode="bridge", mac_address=mac_of(given), **fields)  # type: ignore[arg-type]


def _inside(part: Network | None, gateway: InterfaceAddress) -> Network | None:
    return part if part is not None and part.subnet_of(gateway.network) else None  # type: ignore[arg-type]


def mac_of(given: Mapping[int, Address]) -> str:
    """From the address: whoever has the address in his ARP cache has the right MAC address with it."""
    if 4 in given:
        return "02:42:" + given[4].packed.hex(":")
    return "02:42:" + hashlib.sha256(given[6].packed).digest()[:4].hex(":")


def unicast_mac(text: str) -> str:
    """Return a MAC address as `parse_mac` does; empty stays empty. Raises InvalidArgument."""
    try:
        return parse_mac(text) if text else ""
    except ValueError as error:
        raise InvalidArgument(str(error)) from None


def interface_addresses(interface: Interface) -> list[str]:
    """Return all addresses of an interface as ADDRESS/PREFIXLEN."""
    found = []
    if interface.address:
        found.append(f"{interface.address}/{interface.prefix_len}")
    if interface.address6:
        found.append(f"{interface.address6}/{interface.prefix_len6}")
    return [*found, *(f"{one}/{16 if ip_address(one).version == 4 else 64}" for one in interface.link_local)]


def address_of(interface: Interface, version: int) -> str:
    return interface.address if version == 4 else interface.address6


def gateway_of(interface: Interface, version: int) -> str:
    return interface.gateway if version == 4 else interface.gateway6


def _parse(text: str, version: int) -> Address | None:
    """Read the address that is asked for, if one is. Raises InvalidArgument."""
    try:
        address = ip_address(text) if text else None
    except ValueError:
        address = None
    if text and (address is None or address.version != version):
        raise InvalidArgument(f"invalid IPv{version} address: {text}")
    return address
