"""Address management: which subnet the bridge gets, and which address a container."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from shared.protocol import Unavailable

__all__ = ["POOLS", "Pool", "choose_subnet"]

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

    def allocate(self) -> IPv4Address:
        """Take an address; raises Unavailable when there is none left."""
        with self._lock:
            for step in range(self._size):
                offset = (self._next + step) % self._size
                if self._first + offset not in self._taken:
                    self._take(offset)
                    return IPv4Address(self._first + offset)
        raise Unavailable(f"no available IPv4 addresses in {self._part}")

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
