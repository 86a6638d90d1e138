"""Address management: which subnet a bridge gets, and which address a container."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
)

from shared.protocol import DockyardError, InvalidArgument, PermissionDenied, Unavailable
from shared.runtime.values import parse_pool

__all__ = ["POOLS", "Address", "InterfaceAddress", "Network", "Pool", "choose_subnet", "first_free", "unique_local"]

Address = IPv4Address | IPv6Address
InterfaceAddress = IPv4Interface | IPv6Interface
Network = IPv4Network | IPv6Network

POOLS = tuple(
    IPv4Interface(pool)
    for pool in (
        "172.30.0.1/16",
        "172.31.0.1/16",
        "10.30.0.1/16",
        "10.31.0.1/16",
        *(f"192.168.{third}.1/24" for third in range(230, 250)),
    )
)


def choose_subnet(taken: Iterable[Network], pools: Iterable[IPv4Interface] = POOLS) -> IPv4Interface:
    """Return the bridge's address in the first pool that overlaps nothing taken; raises Unavailable."""
    taken = [network for network in taken if network.version == 4]
    for pool in pools:
        if not any(pool.network.overlaps(network) for network in taken):
            return pool
    raise Unavailable("could not find a free network for the bridge; set bip")


def first_free(pools: Iterable[str], taken: Iterable[Network], version: int = 4) -> Network:
    """Return the first subnet of the ``default_address_pools`` that overlaps nothing taken; raises InvalidArgument.

    A pool is ``10.160.0.0/12/24``: a network, cut into subnets of that prefix length.
    """
    found = [network for network in taken if network.version == version]
    for text in pools:
        base, size = parse_pool(text)
        if base.version != version:
            continue
        near = [network for network in found if network.overlaps(base)]
        exact = set(near)
        for subnet in base.subnets(new_prefix=size):
            if subnet not in exact and not any(subnet.overlaps(network) for network in near):
                return subnet
    raise InvalidArgument("all predefined address pools have been fully subnetted")


def unique_local(seed: str) -> IPv6Network:
    """Return a /64 of fd00::/8, the same for the same seed: 56 bits of chance (RFC 4193 asks for 40)."""
    return IPv6Network((b"\xfd" + hashlib.sha256(seed.encode()).digest()[:7] + bytes(8), 64))


class Pool:
    """The addresses of a subnet without its network, broadcast (IPv4) and gateway addresses. Thread-safe.

    ``part``: what to allocate from, a network inside it; else all of it. The search goes on where it stopped (next
    free), so that an address just released rests as long as possible.
    """

    def __init__(self, gateway: InterfaceAddress, part: Network | None = None) -> None:
        self.gateway = gateway
        whole = self._whole = gateway.network
        self._part = part or whole
        self._first = max(int(whole.network_address) + 1, int(self._part.network_address))
        end = int(whole.broadcast_address) - (1 if whole.version == 4 else 0)
        self._size = max(0, min(end, int(self._part.broadcast_address)) - self._first + 1)
        self._taken = {int(gateway.ip)}
        self._next = 0  # offset from the first
        self._lock = threading.Lock()

    def allocate(self, wanted: Address | None = None) -> Address:
        """Take an address, or the one that is wanted.

        Raises PermissionDenied if another has it, InvalidArgument if it is none of this subnet's, DockyardError when
        there is none left: not Unavailable, for who hears that asks again, and again.
        """
        with self._lock:
            if wanted is not None:
                return self._allocate(wanted)
            for step in range(min(self._size, len(self._taken) + 1)):  # one of so many is free
                offset = (self._next + step) % self._size
                if self._first + offset not in self._taken:
                    self._take(offset)
                    return self._address(self._first + offset)
        raise DockyardError(f"no available IPv{self._whole.version} addresses in {self._part}")

    def _address(self, number: int) -> Address:
        return IPv4Address(number) if self._whole.version == 4 else IPv6Address(number)

    def _allocate(self, wanted: Address) -> Address:
        reserved = [self._whole.network_address, *([self._whole.broadcast_address] if wanted.version == 4 else [])]
        if wanted not in self._whole or wanted in reserved:
            raise InvalidArgument(f"no configured subnet or ip-range contain the IP address {wanted}")
        if int(wanted) in self._taken:
            raise PermissionDenied("Address already in use")
        self._taken.add(int(wanted))
        return wanted

    def claim(self, address: str) -> None:
        """Take this address, as a lease says; one of another subnet (the bridge was changed) needs no place here."""
        if address and (one := ip_address(address)) in self._whole:
            with self._lock:
                self._take(int(one) - self._first)

    def set_aside(self, addresses: Iterable[str]) -> None:
        """Give these to nobody; the search begins where it would have."""
        with self._lock:
            self._taken |= {int(one) for one in map(ip_address, addresses) if one in self._whole}

    def release(self, address: str) -> None:
        """Give an address back; one that is free already is no error."""
        if address and (one := ip_address(address)) != self.gateway.ip:
            with self._lock:
                self._taken.discard(int(one))

    def _take(self, offset: int) -> None:
        self._taken.add(self._first + offset)
        if 0 <= offset < self._size:
            self._next = offset + 1
