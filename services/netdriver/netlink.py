"""Rtnl: rtnetlink(7) requests in batches, one system call for several; pyroute2's classes say what is in them.

pyroute2's own IPRoute costs 5 ms to open and keeps a hidden socket for each thread, in that thread's network namespace.
A socket of ours belongs to the namespace in which it was made, whichever thread uses it.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from types import TracebackType
from typing import Any, Self

from pyroute2.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
)
from pyroute2.netlink.rtnl import (
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
)
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import IFF_UP, ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from services.netdriver.packing import HEADER, Message, Packed, pack

__all__ = [
    "HEADER",
    "IFF_UP",
    "NEW",
    "Message",
    "Rtnl",
    "add_address",
    "add_bridge",
    "add_default_route",
    "add_veth",
    "delete_address",
    "delete_link",
    "get_addresses",
    "get_link",
    "get_links",
    "get_routes",
    "link_message",
    "messages",
    "set_link",
]

Answer = Any  # pyroute2's nlmsg: a dict with ``header``, ``attrs``, ``get_attr``
RECEIVE_SIZE = 1 << 18
TIMEOUT = struct.pack("@ll", 10, 0)  # struct timeval; the kernel answers in microseconds unless rtnl_mutex is held
RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST = 254, 3, 0, 1
MAIN_ROUTE = {"table": RT_TABLE_MAIN, "proto": RTPROT_BOOT, "scope": RT_SCOPE_UNIVERSE, "type": RTN_UNICAST}
NEW = NLM_F_CREATE | NLM_F_EXCL
IFA_F_NODAD = 0x02
RTEXT_FILTER_SKIP_STATS = 1 << 3


class Rtnl:
    """A NETLINK_ROUTE socket of the calling thread's present network namespace. For one thread at a time."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, TIMEOUT)  # no poll(2) before each call
        self._socket.bind((0, 0))
        self._sequence = 0

    def run(self, *requests: Message | Packed) -> None:
        """Send all requests at once; the kernel carries out each. Raises OSError for the first that failed.

        It tells of each that fails, and with NLM_F_ACK of the last in any case.
        """
        first, failed = self._sequence + 1, 0
        last = self._send([*((request, 0) for request in requests[:-1]), (requests[-1], NLM_F_ACK)])
        while True:
            for kind, data in messages(self._socket.recv(RECEIVE_SIZE)):
                sequence = HEADER.unpack_from(data)[3]
                if kind != NLMSG_ERROR or not first <= sequence <= last:
                    continue
                failed = failed or -struct.unpack_from("=i", data, HEADER.size)[0]
                if sequence == last:
                    if failed:
                        raise OSError(failed, os.strerror(failed))
                    return

    def get(self, request: Message) -> Answer:
        """Return what a GET request, not a dump, answers. Raises OSError."""
        (data,) = self._answers(request)
        answer = request.schema(data)
        answer.decode()
        return answer

    def dump(self, request: Message) -> Iterator[bytes]:
        """Yield the bodies of what a dump request answers, undecoded. Raises OSError."""
        return (data[HEADER.size :] for data in self._answers(request))

    def _answers(self, request: Message) -> Iterator[bytes]:
        self._send([(request, 0)])
        while True:
            for kind, data in messages(self._socket.recv(RECEIVE_SIZE)):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", data, HEADER.size)[0]
                    raise OSError(number, os.strerror(number))
                yield data
            if not request.flags & NLM_F_DUMP:
                return

    def _send(self, requests: Sequence[tuple[Message | Packed, int]]) -> int:
        """Send requests, each with more flags; returns the sequence number of the last."""
        batch = []
        for request, flags in requests:
            self._sequence += 1
            batch.append(pack(request, self._sequence, NLM_F_REQUEST | flags))
        self._socket.send(b"".join(batch))
        return self._sequence

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the (type, bytes with header) of each netlink message in a datagram."""
    offset = 0
    while offset < len(datagram):
        length, kind, *_ = HEADER.unpack_from(datagram, offset)
        yield kind, datagram[offset : offset + length]
        offset += (length + 3) & ~3


def add_bridge(name: str, *, mac_address: str) -> Message:
    """A fixed MAC address: else the bridge takes the lowest of its ports, and changes as containers come and go."""
    info = {"attrs": [("IFLA_INFO_KIND", "bridge")]}
    return link_message(NEW, IFLA_IFNAME=name, IFLA_ADDRESS=mac_address, IFLA_LINKINFO=info)


def add_veth(name: str, *, index: int, mtu: int, mac_address: str, peer: str, peer_netns: int) -> Message:
    """A veth pair, ``peer`` in the namespace open as ``peer_netns``. Both ends are down.

    ``index`` is chosen by us, so that requests in the same batch can use it.
    """
    other = {"attrs": [("IFLA_IFNAME", peer), ("IFLA_MTU", mtu), ("IFLA_NET_NS_FD", peer_netns)]}
    info = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", other)]})]}
    message = link_message(NEW, IFLA_IFNAME=name, IFLA_MTU=mtu, IFLA_ADDRESS=mac_address, IFLA_LINKINFO=info)
    message.fields["index"] = index
    return message


def set_link(
    name: str,
    *,
    up: bool | None = None,
    master: int | None = None,
    mtu: int | None = None,
    port: dict[str, int] | None = None,
) -> Message:
    """Change a link. ``port``: flags of a bridge port, as ``{"IFLA_BRPORT_ISOLATED": 1}``."""
    message = link_message(0, IFLA_IFNAME=name)
    if up is not None:
        message.fields = {"flags": IFF_UP if up else 0, "change": IFF_UP}
    if master is not None:
        message.attributes.append(("IFLA_MASTER", master))
    if mtu is not None:
        message.attributes.append(("IFLA_MTU", mtu))
    if port:
        data = {"attrs": list(port.items())}
        info = {"attrs": [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", data)]}
        message.attributes.append(("IFLA_LINKINFO", info))
    return message


def delete_link(name: str) -> Message:
    """Takes 10 to 50 ms: the kernel waits for readers of the link (RCU)."""
    return replace(link_message(0, IFLA_IFNAME=name), type=RTM_DELLINK)


def add_address(index: int, address: IPv4Interface | IPv6Interface) -> Message:
    """An IPv6 address is used at once, without duplicate detection: it is ours to give."""
    fields = {"family": _family(address.version), "prefixlen": address.network.prefixlen, "index": index}
    attributes = [("IFA_LOCAL", str(address.ip)), ("IFA_ADDRESS", str(address.ip))]
    if address.version == 6:
        fields["flags"] = IFA_F_NODAD
    else:
        attributes.append(("IFA_BROADCAST", str(address.network.broadcast_address)))
    return Message(ifaddrmsg, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, fields, attributes)


def delete_address(index: int, address: IPv4Interface | IPv6Interface) -> Message:
    """Routes that have it as their source go with it."""
    return replace(add_address(index, address), type=RTM_DELADDR, flags=0)


def add_default_route(index: int, gateway: IPv4Address | IPv6Address) -> Message:
    fields = {"family": _family(gateway.version), **MAIN_ROUTE}
    attributes = [("RTA_GATEWAY", str(gateway)), ("RTA_OIF", index)]
    return Message(rtmsg, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, fields, attributes)


def get_link(name: str) -> Message:
    return replace(link_message(0, IFLA_IFNAME=name), type=RTM_GETLINK)


def get_links(master: int = 0) -> Message:
    """All links, or the ports of the bridge with the index ``master``; without statistics."""
    attributes = [("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS), *([("IFLA_MASTER", master)] if master else [])]
    return Message(ifinfmsg, RTM_GETLINK, NLM_F_DUMP, attributes=attributes)


def get_addresses(version: int = 4) -> Message:
    return Message(ifaddrmsg, RTM_GETADDR, NLM_F_DUMP, {"family": _family(version)})


def get_routes(version: int = 4) -> Message:
    return Message(rtmsg, RTM_GETROUTE, NLM_F_DUMP, {"family": _family(version)})


def _family(version: int) -> int:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def link_message(flags: int, **attributes: Any) -> Message:
    """A request about links, to make or to change one; ``attributes`` as pyroute2 names them."""
    return Message(ifinfmsg, RTM_NEWLINK, flags, attributes=list(attributes.items()))
