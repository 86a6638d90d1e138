"""Names and indexes of the links inside containers: eth0, eth1 …, or as a network's prefix or its user says."""

from __future__ import annotations

from collections.abc import Collection
from zlib import crc32

from shared.protocol import LINK_NAME, InvalidArgument

__all__ = ["choose", "index_of"]

ETH = "eth"
ETH0_INDEX = 100  # known beforehand, and clear of the tunl0, gre0, sit0 … that some kernels put into every namespace
OTHERS = range(1 << 16, 1 << 30)  # the indexes of links with other names


def choose(wanted: str, prefix: str, taken: Collection[str]) -> str:
    """Return the name that is wanted, else the prefix with the first number that is free.

    Raises InvalidArgument for what is no name, is ``lo``, or another link of that container's.
    """
    if not wanted:
        return next(name for number in range(len(taken) + 1) if (name := f"{prefix or ETH}{number}") not in taken)
    if not LINK_NAME.fullmatch(wanted) or wanted in ("lo", "all", "default"):
        raise InvalidArgument(f"invalid interface name: {wanted!r}")
    if wanted in taken or index_of(wanted) in map(index_of, taken):
        raise InvalidArgument(f"the container has an interface {wanted} already")
    return wanted


def index_of(name: str) -> int:
    """Return a link's index, which follows from its name alone: requests in one batch use it before there is a link."""
    number = name.removeprefix(ETH)
    if number != name and number.isdecimal() and number == str(int(number)) and int(number) < OTHERS.start - ETH0_INDEX:
        return ETH0_INDEX + int(number)
    return OTHERS[crc32(name.encode()) % len(OTHERS)]
