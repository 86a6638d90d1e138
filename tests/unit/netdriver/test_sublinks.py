"""Requests as the kernel gets them (if_link.h): what pyroute2 does not know it leaves out without a word."""

from __future__ import annotations

import struct

import pytest

from services.netdriver.packing import pack
from services.netdriver.sublinks import add_link_on

IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_IPVLAN_MODE, IFLA_IPVLAN_FLAGS = 1, 2, 1, 2


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def encoded(**options: str) -> bytes:
    return pack(add_link_on(7, "eth0", **options), 1, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(("mode", "number"), [("l2", 0), ("l3", 1), ("l3s", 2)])
@pytest.mark.parametrize(("flag", "bits"), [("bridge", None), ("private", 1), ("vepa", 2)])
def test_an_ipvlan_link(mode: str, number: int, flag: str, bits: int | None) -> None:
    data = attribute(IFLA_IPVLAN_MODE, struct.pack("=H", number))
    if bits is not None:
        data += attribute(IFLA_IPVLAN_FLAGS, struct.pack("=H", bits))
    wanted = attribute(IFLA_INFO_KIND, b"ipvlan\0") + attribute(IFLA_INFO_DATA, data)
    assert wanted in encoded(kind="ipvlan", mode=mode, flag=flag)
