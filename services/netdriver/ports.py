"""Published ports: what a request means, and which host ports are ours.

A host port is held by a socket that is bound and never listens. So the kernel itself settles every conflict: with
another lease, with a listener on the host, and with another stack; and no program on the host can take, or be given by
chance, a port whose packets we redirect. The sockets die with us; after a restart the leases say what to hold again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address

from shared.protocol import AllocatedPort, Conflict, DockyardError, InvalidArgument, PortBinding, Unavailable

__all__ = ["HostPorts", "Request", "parse", "raised"]

KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
ANY = "0.0.0.0"
HIGH = 2048  # twice what select(2) can wait for


@dataclass(frozen=True)
class Request:
    """One binding: any of ``host_ports`` will do; 0 has the kernel choose one of ip_local_port_range."""

    container_port: int
    protocol: str
    host_ip: str
    host_ports: range

    def is_met_by(self, port: AllocatedPort) -> bool:
        """Tell whether a port that a container has is what this asks for; "any port" asks for a new one."""
        mine = (self.container_port, self.protocol, self.host_ip)
        theirs = (port.container_port, port.protocol, port.host_ip)
        return mine == theirs and port.host_port in self.host_ports


def parse(ports: Mapping[str, Sequence[PortBinding]], default_ip: str) -> list[Request]:
    """Read "80/tcp" → bindings; a list without bindings means one with nothing set. Raises InvalidArgument."""
    requests = []
    for key, bindings in ports.items():
        number, _, protocol = key.partition("/")
        for one in bindings or [PortBinding()]:
            requests += [request(number, protocol or "tcp", one.host_ip or default_ip, one.host_port)]
    return requests


def request(container_port: str, protocol: str, host_ip: str, host_port: str) -> Request:
    """Read one binding; raises InvalidArgument."""
    if protocol not in KINDS:
        raise InvalidArgument(f"invalid protocol: {protocol}")
    try:
        IPv4Address(host_ip)
    except AddressValueError:
        raise InvalidArgument(f"invalid host IP address, IPv4 is wanted: {host_ip}") from None
    first, dash, last = host_port.partition("-")
    low = _number(first or "0", 0)
    high = _number(last, 0) if dash else low
    if high < low or (dash and low == 0):
        raise InvalidArgument(f"invalid port range: {host_port}")
    return Request(_number(container_port, 1), protocol, host_ip, range(low, high + 1))


def _number(text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= 65535):
        raise InvalidArgument(f"invalid port: {text}")
    return int(text)


class HostPorts:
    """The ports held for leases. Thread-safe."""

    def __init__(self) -> None:
        self._held: dict[AllocatedPort, socket.socket] = {}
        self._lock = threading.Lock()

    def hold(self, requests: Sequence[Request]) -> list[AllocatedPort]:
        """Take a host port for each request, or none at all. Raises Conflict, InvalidArgument, Unavailable."""
        taken: list[AllocatedPort] = []
        try:
            for wanted in requests:
                taken += [self._hold(wanted)]
        except DockyardError:
            self.release(taken)
            raise
        return taken

    def restore(self, port: AllocatedPort) -> None:
        """Hold again what a lease has. Raises Conflict if the host took it while we were away."""
        if port not in self._held:
            numbers = range(port.host_port, port.host_port + 1)
            self._hold(Request(port.container_port, port.protocol, port.host_ip, numbers))

    def release(self, ports: Sequence[AllocatedPort]) -> None:
        """Give ports back; one that is not held is no error."""
        with self._lock:
            for port in ports:
                held = self._held.pop(port, None)
                if held is not None:
                    held.close()

    def _hold(self, wanted: Request) -> AllocatedPort:
        for number in wanted.host_ports:
            with self._lock:
                held = None if self._is_ours(wanted, number) else _bind(wanted.protocol, wanted.host_ip, number)
                if held is not None:
                    port = AllocatedPort(
                        container_port=wanted.container_port,
                        protocol=wanted.protocol,
                        host_ip=wanted.host_ip,
                        host_port=held.getsockname()[1],
                    )
                    self._held[port] = held
                    return port
        first, last = wanted.host_ports[0], wanted.host_ports[-1]
        name = f"{wanted.host_ip}:{first}" if first == last else f"{wanted.host_ip}:{first}-{last}"
        raise Conflict(f"Bind for {name} failed: port is already allocated")

    def _is_ours(self, wanted: Request, number: int) -> bool:
        """Two sockets of ours with SO_REUSEADDR (see `_bind`) would not be in each other's way."""
        return any(
            (port.protocol, port.host_port) == (wanted.protocol, number)
            and (port.host_ip == wanted.host_ip or ANY in (port.host_ip, wanted.host_ip))
            for port in self._held
        )


def raised(low: socket.socket) -> socket.socket:
    """Return a socket that is to be held at a high descriptor: libnftables needs the low ones (see `Nft`).

    As it is where the limit of descriptors does not allow it.
    """
    try:
        high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, HIGH)
    except OSError:
        return low
    low.close()
    return socket.socket(fileno=high)


def _bind(protocol: str, host_ip: str, port: int) -> socket.socket | None:
    """Bind; None if the port is taken. SO_REUSEADDR second: it overlooks what only lingers in TIME_WAIT."""
    for reuse in (0, 1) if protocol == "tcp" else (0,):
        try:
            held = socket.socket(socket.AF_INET, *KINDS[protocol])
        except OSError as error:
            if error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
                raise InvalidArgument(f"this host's kernel has no {protocol}") from error
            raise Unavailable(f"no socket to hold a port with: {os.strerror(error.errno or 0)}") from error
        try:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            held.bind((host_ip, port))
            held = raised(held)
        except OSError as error:
            held.close()
            if error.errno != errno.EADDRINUSE:
                raise InvalidArgument(f"Bind for {host_ip}:{port} failed: {os.strerror(error.errno or 0)}") from error
        else:
            return held
    return None
