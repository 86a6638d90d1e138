"""Address management: which subnet a bridge gets, and which address a container."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from shared.protocol import InvalidArgument, PermissionDenied, Unavailable
from shared.runtime.values import parse_pool

__all__ = ["POOLS", "Pool", "choose_subnet", "first_free"]

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


def choose_subnet(taken: Iterable[IPv4Network], pools: Iterable[IPv4Interface] = POOLS) -> IPv4Interface:
    """Return the bridge's address in the first pool that overlaps nothing taken; raises Unavailable."""
    taken = list(taken)
    for pool in pools:
        if not any(pool.network.overlaps(network) for network in taken):
            return pool
    raise Unavailable("could not find a free network for the bridge; set bip")


def first_free(pools: Iterable[str], taken: Iterable[IPv4Network]) -> IPv4Network:
    """Return the first subnet of the ``default_address_pools`` that overlaps nothing taken; raises Unavailable.

    A pool is ``10.160.0.0/12/24``: a network, cut into subnets of that prefix length.
    """
    found = list(taken)
    for text in pools:
        base, size = parse_pool(text)
        near = [network for network in found if network.overlaps(base)]
        for subnet in base.subnets(new_prefix=size):
            if not any(subnet.overlaps(network) for network in near):
                return subnet
    raise Unavailable("all predefined address pools have been fully subnetted")


class Pool:
    """The addresses of a subnet without its network, broadcast and gateway addresses. Thread-safe.

    ``part``: what to allocate from, a network inside it; else all of it. The search goes on where it stopped (next
    free), so that an address just released rests as long as possible.
    """

    def __init__(self, gateway: IPv4Interface, part: IPv4Network | None = None) -> None:
        self.gateway = gateway
        whole = gateway.network
        self._part = part or whole
        self._first = max(int(whole.network_address) + 1, int(self._part.network_address))
        last = min(int(whole.broadcast_address) - 1, int(self._part.broadcast_address))
        self._size = max(0, last - self._first + 1)
        self._taken = {int(gateway.ip)}
        self._next = 0  # offset from the first
        self._lock = threading.Lock()

    def allocate(self, wanted: IPv4Address | None = None) -> IPv4Address:
        """Take an address, or the one that is wanted.

        Raises Unavailable when there is none left, PermissionDenied if another has it, InvalidArgument if it is none of
        this subnet's.
        """
        with self._lock:
            if wanted is not None:
                return self._allocate(wanted)
            for step in range(self._size):
                offset = (self._next + step) % self._size
                if self._first + offset not in self._taken:
                    self._take(offset)
                    return IPv4Address(self._first + offset)
        raise Unavailable(f"no available IPv4 addresses in {self._part}")

    def _allocate(self, wanted: IPv4Address) -> IPv4Address:
        whole = self.gateway.network
        if wanted not in whole or wanted in (whole.network_address, whole.broadcast_address):
            raise InvalidArgument(f"no configured subnet or ip-range contain the IP address {wanted}")
        if int(wanted) in self._taken:
            raise PermissionDenied("Address already in use")
        self._taken.add(int(wanted))
        return wanted

    def claim(self, address: IPv4Address) -> None:
        """Take this address, as a lease says; one of another subnet (the bridge was changed) needs no place here."""
        if address in self.gateway.network:
            with self._lock:
                self._take(int(address) - self._first)

    def release(self, address: IPv4Address) -> None:
        """Give an address back; one that is free already is no error."""
        if address != self.gateway.ip:
            with self._lock:
                self._taken.discard(int(address))

    def _take(self, offset: int) -> None:
        self._taken.add(self._first + offset)
        if 0 <= offset < self._size:
            self._next = offset + 1
