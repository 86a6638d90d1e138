"""Ingress: what links do with a frame before bridge and rules see it (tc(8), with programs in eBPF).

It belongs to the link and goes with it: neither ``nft flush ruleset`` nor a stack that is down changes it.
"""

from __future__ import annotations

import fcntl
import functools
import logging
import os
import socket
import struct
from collections.abc import Sequence

from pyroute2.netlink import NLM_F_CREATE, NLM_F_REPLACE
from pyroute2.netlink.rtnl import RTM_NEWNEIGH, RTM_NEWQDISC, RTM_NEWTFILTER

from services.netdriver.ebpf import Instruction, call, jump, leave, load, load_field, load_packet, move, only_bits
from services.netdriver.netlink import Rtnl
from services.netdriver.packing import Packed, attribute

__all__ = ["watch_port"]

TCMSG, NDMSG = struct.Struct("=BxxxiIII"), struct.Struct("=BxxxiHBB")
TCA_KIND, TCA_OPTIONS, TCA_BPF_FD, TCA_BPF_NAME, TCA_BPF_FLAGS, NDA_LLADDR = 1, 2, 6, 7, 8, 2
ACT_DIRECT = 1  # the program's result is what is done
CLSACT, CLSACT_HANDLE, CLSACT_INGRESS = 0xFFFFFFF1, 0xFFFF0000, 0xFFFFFFF2
FIRST = 1 << 16  # priority
ETH_P_ALL, ETH_P_IP, ETH_P_IPV6, ETH_P_8021Q, ETH_P_8021AD = map(socket.htons, (3, 0x0800, 0x86DD, 0x8100, 0x88A8))
PROTOCOL, VLAN_PRESENT, VLAN_TCI = 16, 20, 24  # in struct __sk_buff
NETWORK_HEADER = -0x100000
TC_ACT_UNSPEC, TC_ACT_SHOT = -1, 2
REDIRECT, INGRESS = 23, 1  # bpf_redirect()
AF_BRIDGE, NUD_NOARP, NTF_MASTER = 7, 0x40, 0x04
SIOCGIFHWADDR = 0x8927
log = logging.getLogger("dockyard.netdriver")

Program = Sequence[Instruction | str]


def watch_port(port: str, *, bridge: str = "", mac_address: str = "") -> bool:
    """Drop what comes from a container, by a bridge's port, for 127.0.0.0/8; returns whether that is so now.

    Before the bridge, since br_netfilter turns answers to 127.0.0.1 back while they are bridged. May be called again.

    With ``bridge``, what is for the bridge itself passes by bridging. br_netfilter has published ports redirected
    meanwhile, and then sends the packet to the other port at once: never, if both are isolated. From what passes it by
    the bridge learns no address, so it is told the container's.
    """
    try:
        index = socket.if_nametoindex(port)
        if not bridge:
            _attach(index, _plain_guard())
            return True
        number = bytes.fromhex(mac_address.replace(":", ""))
        neighbour = NDMSG.pack(AF_BRIDGE, index, NUD_NOARP, NTF_MASTER, 0) + attribute(NDA_LLADDR, number)
        with Rtnl() as host:
            host.run(Packed(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, neighbour))
        descriptor = load([*GUARD, *_to_host(socket.if_nametoindex(bridge), _mac_of(bridge)), *END])
        try:
            _attach(index, descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:  # a kernel without tc, or that lets nobody load a program: there are the rules
        log.warning("no filter for frames link=%s error=%s", port, error)
        return False
    return True


@functools.cache
def _plain_guard() -> int:
    return load([*GUARD, *END])


# A VLAN tag of number 0 is none: the kernel takes off any number of them, so a frame with two is dropped unread.
GUARD: Program = (
    load_field(2, VLAN_TCI),
    only_bits(2, 0xFFF),
    jump("pass", 2, 0, if_equal=False),
    load_field(2, PROTOCOL),
    jump("drop", 2, ETH_P_8021Q),
    jump("drop", 2, ETH_P_8021AD),
    jump("not for loopback", 2, ETH_P_IP, if_equal=False),
    load_packet(NETWORK_HEADER + 16, 1),
    jump("drop", 0, 127),
    "not for loopback",
)
END: Program = ("pass", move(0, TC_ACT_UNSPEC), leave(), "drop", move(0, TC_ACT_SHOT), leave())


def _to_host(bridge: int, mac_address: bytes) -> Program:
    """``bridge``: its index. Packets of IP alone: of what it floods the bridge sees to the host's copy."""
    return (
        load_field(2, VLAN_PRESENT),
        jump("pass", 2, 0, if_equal=False),
        load_field(2, PROTOCOL),
        jump("of ip", 2, ETH_P_IP),
        jump("pass", 2, ETH_P_IPV6, if_equal=False),
        "of ip",
        load_packet(0, 4),
        jump("pass", 0, int.from_bytes(mac_address[:4], "big"), if_equal=False),
        load_packet(4, 2),
        jump("pass", 0, int.from_bytes(mac_address[4:], "big"), if_equal=False),
        move(1, bridge),
        move(2, INGRESS),
        call(REDIRECT),
        leave(),
    )


def _attach(index: int, program: int) -> None:
    """Have a link's frames pass the program open as ``program``, in place of an earlier one. Raises OSError."""
    options = attribute(TCA_BPF_FD, struct.pack("=I", program))
    options += attribute(TCA_BPF_NAME, b"dockyard\0")
    options += attribute(TCA_BPF_FLAGS, struct.pack("=I", ACT_DIRECT))
    place = TCMSG.pack(0, index, CLSACT_HANDLE, CLSACT, 0) + attribute(TCA_KIND, b"clsact\0")
    classifier = TCMSG.pack(0, index, 1, CLSACT_INGRESS, FIRST | ETH_P_ALL)
    classifier += attribute(TCA_KIND, b"bpf\0") + attribute(TCA_OPTIONS, options)
    with Rtnl() as host:
        host.run(Packed(RTM_NEWQDISC, NLM_F_CREATE, place), Packed(RTM_NEWTFILTER, NLM_F_CREATE, classifier))


def _mac_of(link: str) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        found: bytes = fcntl.ioctl(any_socket, SIOCGIFHWADDR, link.encode().ljust(40, b"\0"))
    return found[18:24]
