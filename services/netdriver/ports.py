"""Published ports: what a request means, and which host ports are ours.

A host port is held by a socket that is bound and never listens. So the kernel itself settles every conflict: with
another lease, with a listener on the host, and with another stack; and no program on the host can take, or be given by
chance, a port whose packets we redirect. The sockets die with us; after a restart the leases say what to hold again.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import socket
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from shared.protocol import AllocatedPort, Conflict, DockyardError, InvalidArgument, PortBinding, Unavailable

__all__ = ["HostPorts", "Request", "parse", "raised", "request", "request_again", "version_of"]

KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
ANY, ANY6 = "0.0.0.0", "::"
HIGH = 2048  # twice what select(2) can wait for
ATTEMPTS = 64  # to find a free number that is free for IPv6 too


@dataclass(frozen=True)
class Request:
    """One binding: any of ``host_ports`` will do, the same for all ``host_ips``; 0 has the kernel choose one of
    ip_local_port_range.
    """

    container_port: int
    protocol: str
    host_ips: tuple[str, ...]
    host_ports: range

    @property
    def asked(self) -> str:
        """Return the host ports as `AllocatedPort` has them."""
        first, last = self.host_ports[0], self.host_ports[-1]
        return "" if not last else str(first) if first == last else f"{first}-{last}"

    def is_met_by(self, port: AllocatedPort) -> bool:
        """Tell whether a port that a container has is what this asks for; "any port" of the host's is a new one."""
        mine = (self.container_port, self.protocol) == (port.container_port, port.protocol)
        fits = port.host_port in self.host_ports if port.host_port else port.asked == self.asked
        return mine and port.host_ip in self.host_ips and fits

    def without(self, versions: Collection[int]) -> Request | None:
        """Return what is left of it where the addresses of some families are not asked for; None: nothing."""
        rest = tuple(one for one in self.host_ips if (6 if ":" in one else 4) not in versions)
        return dataclasses.replace(self, host_ips=rest) if rest else None

    def let_through(self, versions: Collection[int]) -> list[AllocatedPort]:
        """Return the ports, of some families, that are the container's own and hold none of the host's."""
        return [
            AllocatedPort(
                container_port=self.container_port, protocol=self.protocol, host_ip=one, host_port=0, asked=self.asked
            )
            for one in self.host_ips
            if (6 if ":" in one else 4) in versions
        ]


def version_of(port: AllocatedPort) -> int:
    """Return 4 or 6: whose addresses it leads to."""
    return 6 if ":" in port.host_ip else 4


def parse(ports: Mapping[str, Sequence[PortBinding]], default_ip: str, versions: Sequence[int] = (4,)) -> list[Request]:
    """Read "80/tcp" → bindings; a list without bindings means one with nothing set.

    ``versions``: 4, 6, or both: those of the container's addresses. Raises InvalidArgument.
    """
    requests = []
    for key, bindings in ports.items():
        number, _, protocol = key.partition("/")
        for one in bindings or [PortBinding()]:
            host_ip = one.host_ip.strip("[]") or default_ip
            requests += [request(number, protocol or "tcp", host_ip, one.host_port, versions, given=bool(one.host_ip))]
    return requests


def request(
    container_port: str,
    protocol: str,
    host_ip: str,
    host_port: str,
    versions: Sequence[int] = (4,),
    *,
    given: bool = False,
) -> Request:
    """Read one binding; 0.0.0.0 that was not ``given`` stands for [::] too. Raises InvalidArgument."""
    if protocol not in KINDS:
        raise InvalidArgument(f"invalid protocol: {protocol}")
    first, dash, last = host_port.partition("-")
    low = _number(first or "0", 0)
    high = _number(last, 0) if dash else low
    if high < low or (dash and low == 0):
        raise InvalidArgument(f"invalid port range: {host_port}")
    host_ips = _host_ips(host_ip, versions, given=given)
    if not host_ips:
        what = f"{container_port}/{protocol} cannot be published on {host_ip}"
        raise InvalidArgument(f"port {what}: the container has no IPv{4 if 6 in versions else 6} address")
    return Request(_number(container_port, 1), protocol, host_ips, range(low, high + 1))


def _host_ips(host_ip: str, versions: Sequence[int], *, given: bool) -> tuple[str, ...]:
    try:
        address = ip_address(host_ip)
    except ValueError:
        raise InvalidArgument(f"invalid host IP address: {host_ip}") from None
    if address.version == 6 and (address.is_link_local or address.ipv4_mapped):
        raise InvalidArgument(f"invalid host IP address: {host_ip}: neither link-local nor mapped")
    if address.version == 6 and address.is_loopback:
        raise InvalidArgument("a port cannot be published on [::1], from where the kernel leads nowhere: use 127.0.0.1")
    both = (host_ip, ANY6) if host_ip == ANY and not given else (str(address),)
    return tuple(one for one in both if (6 if ":" in one else 4) in versions)


def _number(text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and least <= int(text) <= 65535):
        raise InvalidArgument(f"invalid port: {text}")
    return int(text)


def request_again(port: AllocatedPort) -> Request:
    """Return the request that a port would meet anywhere."""
    numbers = port.asked if not port.host_port else str(port.host_port)
    return request(str(port.container_port), port.protocol, port.host_ip, numbers, (version_of(port),), given=True)


class HostPorts:
    """The ports held for leases. Thread-safe."""

    def __init__(self) -> None:
        self._held: dict[AllocatedPort, socket.socket] = {}
        self._numbers: dict[tuple[str, int], set[str]] = {}  # (protocol, port) → host addresses held
        self._lock = threading.Lock()

    def hold(self, requests: Sequence[Request]) -> list[AllocatedPort]:
        """Take a host port for each request, or none at all. Raises Conflict, InvalidArgument, Unavailable."""
        taken: list[AllocatedPort] = []
        try:
            with self._lock:
                for wanted in requests:
                    taken += self._hold(wanted)
        except DockyardError:
            self.release(taken)
            raise
        return taken

    def restore(self, port: AllocatedPort) -> None:
        """Hold again what a lease has. Raises Conflict if the host took it while we were away."""
        with self._lock:
            if port.host_port and port not in self._held:
                numbers = range(port.host_port, port.host_port + 1)
                self._hold(Request(port.container_port, port.protocol, (port.host_ip,), numbers))

    def release(self, ports: Sequence[AllocatedPort]) -> None:
        """Give ports back; one that is not held is no error."""
        with self._lock:
            self._release(ports)

    def _release(self, ports: Sequence[AllocatedPort]) -> None:
        for port in ports:
            held = self._held.pop(port, None)
            if held is not None:
                held.close()
                key = port.protocol, port.host_port
                self._numbers[key].discard(port.host_ip)
                if not self._numbers[key]:
                    del self._numbers[key]

    def _hold(self, wanted: Request) -> list[AllocatedPort]:
        numbers = wanted.host_ports
        for number in [0] * ATTEMPTS if numbers == range(1) else numbers:
            taken = self._hold_number(wanted, number)
            if taken:
                return taken
        first, last = numbers[0], numbers[-1]
        address = wanted.host_ips[0] if ":" not in wanted.host_ips[0] else f"[{wanted.host_ips[0]}]"
        name = f"{address}:{first}" if first == last else f"{address}:{first}-{last}"
        raise Conflict(f"Bind for {name} failed: port is already allocated")

    def _hold_number(self, wanted: Request, number: int) -> list[AllocatedPort]:
        """Hold a number at all addresses; an empty list if one is taken."""
        taken: list[AllocatedPort] = []
        for host_ip in wanted.host_ips:
            try:
                busy = self._is_ours(wanted.protocol, host_ip, number)
                held = None if busy else _bind(wanted.protocol, host_ip, number)
            except DockyardError:
                self._release(taken)
                raise
            if held is None:
                self._release(taken)
                return []
            number = held.getsockname()[1]
            port = AllocatedPort(
                container_port=wanted.container_port, protocol=wanted.protocol, host_ip=host_ip, host_port=number
            )
            self._held[port] = held
            self._numbers.setdefault((wanted.protocol, number), set()).add(host_ip)
            taken.append(port)
        return taken

    def _is_ours(self, protocol: str, host_ip: str, number: int) -> bool:
        """Two sockets of ours with SO_REUSEADDR (see `_bind`) would not be in each other's way."""
        held = {one for one in self._numbers.get((protocol, number), ()) if (":" in one) == (":" in host_ip)}
        return bool(held) and (host_ip in (ANY, ANY6) or not held.isdisjoint((ANY, ANY6, host_ip)))


def raised(low: socket.socket) -> socket.socket:
    """Return a socket that is to be held at a high descriptor: libnftables needs the low ones (see `Nft`).

    As it is where the limit of descriptors does not allow it.
    """
    try:
        high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, HIGH)
    except OSError:
        return low
    low.close()
    return socket.socket(low.family, low.type, low.proto, fileno=high)  # else it would ask the kernel


def _bind(protocol: str, host_ip: str, port: int) -> socket.socket | None:
    """Bind; None if the port is taken. SO_REUSEADDR second: it overlooks what only lingers in TIME_WAIT."""
    for reuse in (0, 1) if protocol == "tcp" else (0,):
        try:
            held = socket.socket(socket.AF_INET6 if ":" in host_ip else socket.AF_INET, *KINDS[protocol])
        except OSError as error:
            if error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
                raise InvalidArgument(f"this host's kernel has no {protocol}") from error
            raise Unavailable(f"no socket to hold a port with: {os.strerror(error.errno or 0)}") from error
        try:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse)
            if held.family is socket.AF_INET6:
                held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            held.bind((host_ip, port))
            held = raised(held)
        except OSError as error:
            held.close()
            if error.errno != errno.EADDRINUSE:
                raise InvalidArgument(f"Bind for {host_ip}:{port} failed: {os.strerror(error.errno or 0)}") from error
        else:
            return held
    return None
