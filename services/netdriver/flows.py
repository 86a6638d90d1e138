"""Flows of UDP that the kernel tracks, and how it is made to forget some (ctnetlink: linux/nfnetlink_conntrack.h).

A flow keeps the way of its first packet as long as packets come: to a container that is no more, though its port is
another's by now; or to the host itself, though the port was published meanwhile. Once forgotten, the next packet is
asked again where it goes. TCP needs none of this: its connections end.

| message | body: nfgenmsg (family, version, resource), then attributes                                    |
|---------|-----------------------------------------------------------------------------------------------|
| CT_GET  | dump; CTA_TUPLE_ORIG with protocol and port, CTA_FILTER says that these are to be matched (5.8) |
| CT_DELETE | CTA_TUPLE_ORIG, CTA_ID and CTA_ZONE of the flow, as the dump has them                         |
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from collections.abc import Iterable
from ipaddress import ip_address

from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR

from services.netdriver.dumps import attributes
from services.netdriver.netlink import HEADER, messages
from shared.protocol import AllocatedPort

__all__ = ["forget"]

NETLINK_NETFILTER = 12
CT_GET, CT_DELETE = (1 << 8) | 1, (1 << 8) | 2
NLA_F_NESTED = 1 << 15
CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE, CTA_FILTER = 1, 12, 18, 25
CTA_TUPLE_IP, CTA_TUPLE_PROTO = 1, 2
CTA_IP_DST: dict[int, int] = {socket.AF_INET: 2, socket.AF_INET6: 4}
CTA_PROTO_NUM, CTA_PROTO_DST_PORT = 1, 3
CTA_FILTER_ORIG_FLAGS, MATCHED = 1, (1 << 3) | (1 << 5)  # the protocol's number, the destination's port
BY_NUMBER = 16  # ports up to which each is asked for by its number; more are picked out of all flows
ANY = ("0.0.0.0", "::")
TIMEOUT = 5.0  # seconds
log = logging.getLogger("dockyard.netdriver")


def forget(ports: Iterable[AllocatedPort]) -> None:
    """Forget the flows to those of the ports that are UDP's. Where the kernel cannot, that is logged, and no error."""
    wanted = [port for port in ports if port.protocol == "udp"]
    if not wanted:
        return
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER) as kernel:
            kernel.settimeout(TIMEOUT)
            kernel.bind((0, 0))
            for family in (socket.AF_INET, socket.AF_INET6):
                mine = [port for port in wanted if (":" in port.host_ip) == (family == socket.AF_INET6)]
                numbers = {port.host_port for port in mine}
                for number in numbers if len(numbers) <= BY_NUMBER else {0} if numbers else set():
                    _forget(kernel, family, mine, number)
    except OSError as error:
        log.warning("flows are not forgotten error=%s", error)


def _forget(kernel: socket.socket, family: int, ports: list[AllocatedPort], number: int) -> None:
    """``number``: to which port the flows are, 0: to any."""
    doomed = [flow for body in _dump(kernel, family, number) if (flow := _flow_to(ports, family, body))]
    for flow in doomed:
        _send(kernel, CT_DELETE, NLM_F_ACK, family, flow)
        for kind, data in messages(kernel.recv(1 << 16)):
            failed = -struct.unpack_from("=i", data, HEADER.size)[0] if kind == NLMSG_ERROR else 0
            if failed not in (0, errno.ENOENT):  # it has ended meanwhile
                raise OSError(failed, os.strerror(failed))


def _dump(kernel: socket.socket, family: int, number: int) -> list[bytes]:
    """Return the attributes of each flow."""
    proto = _attribute(CTA_PROTO_NUM, bytes([socket.IPPROTO_UDP]))
    if number:
        proto += _attribute(CTA_PROTO_DST_PORT, number.to_bytes(2, "big"))
    tuple_ = _attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, _attribute(CTA_TUPLE_PROTO | NLA_F_NESTED, proto))
    flags = MATCHED if number else 1 << 3
    filter_ = _attribute(CTA_FILTER | NLA_F_NESTED, _attribute(CTA_FILTER_ORIG_FLAGS, struct.pack("=I", flags)))
    _send(kernel, CT_GET, NLM_F_DUMP, family, tuple_ + filter_)
    found: list[bytes] = []
    while True:
        for kind, data in messages(kernel.recv(1 << 18)):
            if kind == NLMSG_DONE:
                return found
            if kind == NLMSG_ERROR:
                failed = -struct.unpack_from("=i", data, HEADER.size)[0]
                raise OSError(failed, os.strerror(failed))
            found.append(data[HEADER.size + 4 :])


def _flow_to(ports: list[AllocatedPort], family: int, body: bytes) -> bytes:
    """Return the attributes that name a flow, if it is to one of the ports; else none."""
    values = dict(attributes(body))
    parts = dict(attributes(values.get(CTA_TUPLE_ORIG, b"")))
    addresses, proto = (dict(attributes(parts.get(part, b""))) for part in (CTA_TUPLE_IP, CTA_TUPLE_PROTO))
    if proto.get(CTA_PROTO_NUM) != bytes([socket.IPPROTO_UDP]) or CTA_IP_DST[family] not in addresses:
        return b""
    number = int.from_bytes(proto.get(CTA_PROTO_DST_PORT, b""), "big")
    address = str(ip_address(addresses[CTA_IP_DST[family]]))
    if not any(port.host_port == number and port.host_ip in (*ANY, address) for port in ports):
        return b""
    named = _attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, values[CTA_TUPLE_ORIG])
    return named + b"".join(_attribute(kind, values[kind]) for kind in (CTA_ID, CTA_ZONE) if kind in values)


def _send(kernel: socket.socket, kind: int, flags: int, family: int, body: bytes) -> None:
    message = struct.pack("=BBH", family, 0, 0) + body
    kernel.send(HEADER.pack(HEADER.size + len(message), kind, NLM_F_REQUEST | flags, 1, 0) + message)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
