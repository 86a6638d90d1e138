"""Listeners: the API's sockets. The arbiter makes and owns them, so that no restart of a worker refuses a client."""

from __future__ import annotations

import grp
import ipaddress
import logging
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from circus.sockets import CircusSocket

from services.ctl.startup import StartError
from shared.runtime.config import Config, ConfigError
from shared.runtime.hosts import METRICS, Host, parse_host
from shared.runtime.tls import server_context

__all__ = ["Listener", "check_activation", "check_hosts", "make_listeners"]

BACKLOG = 4096
FIRST_FD = 3  # of those that are handed over: sd_listen_fds(3)
WARNING = "/!\\ DON'T BIND ON ANY IP ADDRESS WITHOUT setting tlsverify IF YOU DON'T KNOW WHAT YOU'RE DOING /!\\ host=%s"
log = logging.getLogger("dockyard.arbiter")


class Listener(CircusSocket):
    """A CircusSocket that is bound from the start; a unix one has a mode and a group.

    ``is_encrypted``: the API's workers speak TLS on it. ``address``: what it was made of; empty: others made it.
    ``host_index``: which of the configuration's hosts it is.
    """

    host_index = -1

    def __init__(
        self, name: str, *, group: int = -1, mode: int = 0o660, is_encrypted: bool = False, **address: Any
    ) -> None:
        super().__init__(name, backlog=BACKLOG, umask=None, replace=True, **address)
        self.group, self.mode, self.is_encrypted = group, mode, is_encrypted
        self.address = ""
        self.listening = False

    def bind_and_listen(self) -> None:
        """Circus calls this again at its start."""
        if self.listening:
            return
        if self.path is not None:
            Path(self.path).parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        mask = os.umask(0o777 & ~self.mode)
        try:
            super().bind_and_listen()
        finally:
            os.umask(mask)
        self.listening = True
        if self.path is not None:
            os.chown(self.path, -1, self.group)

    def close(self) -> None:
        """Circus removes the path: of one that has not been bound, it is another's."""
        if not self.listening:
            self.is_unix = False
        super().close()


class InheritedListener(Listener):
    """One that listens already: systemd made it, or we before an upgrade. Only our own path goes when it is closed."""

    def __init__(self, name: str, descriptor: int, *, path: str | None = None, is_encrypted: bool = False) -> None:
        socket.socket.__init__(self, fileno=descriptor)
        self.name, self.is_encrypted, self.address = name, is_encrypted, ""
        self.path, self.interface = path, None
        self.is_unix, self.so_reuseport = path is not None, False  # as circus is to treat it
        self.host, self.port = "descriptor", descriptor
        self.listening = True
        self.set_inheritable(True)
        self.setblocking(False)

    @classmethod
    def in_place_of(cls, listener: Listener, descriptor: int) -> InheritedListener:
        """Make one of what another, which is not bound, was to become; that one is closed."""
        listener.close()
        made = cls(listener.name, descriptor, path=listener.path, is_encrypted=listener.is_encrypted)
        made.address, made.host_index = listener.address, listener.host_index
        return made


def make_listeners(
    config: Config, environ: Mapping[str, str], inherited: Mapping[str, int] | None = None
) -> list[Listener]:
    """Make the sockets of ``config.api_hosts``. Errors: ConfigError (not an address we serve), StartError.

    ``inherited``: address → descriptor of those that are there already, since before an upgrade; others are closed.

    A stale path of an earlier stack is replaced: the caller holds the root's lock. Where clients must have a
    certificate on every socket, there is one more, for root: the arbiter asks on it whether the API answers.
    """
    handed_over, kept = _handed_over(environ), dict(inherited or {})
    planned = _plan(config, _hosts(config, handed_over), handed_over)
    made: list[Listener] = []
    try:
        made.extend(_listening(listener, kept) for listener in planned)
    except StartError:
        _close(planned + made)
        raise
    for address, descriptor in kept.items():
        log.info("no longer listening host=%s", address)
        os.close(descriptor)
    return made


def check_hosts(config: Config, kept: Iterable[str] | None = None) -> None:
    """Refuse what `make_listeners` would refuse of the configuration, and listen nowhere. Errors as there.

    ``kept``: addresses where a stack listens that is to be replaced: none of the others may be taken by somebody.
    """
    planned = _plan(config, [host for host in config.api_hosts if not host.startswith("fd://")], {})
    try:
        for listener in planned:
            if kept is not None and listener.address not in kept and listener.path is None:
                _listening(listener, {})
    finally:
        _close(planned)


def _plan(config: Config, hosts: Iterable[str], handed_over: dict[int, str]) -> list[Listener]:
    """Make the listeners of all ``hosts``, and those that we add; none is bound. Errors: ConfigError."""
    planned: list[Listener] = []
    try:
        for index, host in enumerate(map(parse_host, hosts)):
            _add(planned, host.address, _make(host, config, handed_over, len(planned)), index)
        if all(listener.is_encrypted for listener in planned):
            path = str(config.run / "ready.sock")
            _add(planned, path, [Listener("ready", mode=0o600, path=path)])
        if config.metrics_addr:
            _add(planned, config.metrics_addr, _metrics(config), METRICS)
        if any(listener.is_encrypted for listener in planned):
            server_context(config)
    except ConfigError:
        _close(planned)
        raise
    return planned


def _add(planned: list[Listener], address: str, listeners: Iterable[Listener], index: int = -1) -> None:
    for listener in listeners:
        planned.append(listener)
        listener.host_index = index
        if not listener.listening:
            listener.address = address


def _listening(listener: Listener, kept: dict[str, int]) -> Listener:
    """Bind a listener; if its address is ``kept``, return what listens there, in its place. Errors: StartError."""
    try:
        if listener.address in kept:
            return InheritedListener.in_place_of(listener, kept.pop(listener.address))
        listener.bind_and_listen()
    except OSError as error:
        raise StartError(f"the API cannot listen on {listener.address}: {error.strerror or error}") from None
    return listener


def _close(listeners: Iterable[Listener]) -> None:
    for listener in listeners:
        listener.close()


def _metrics(config: Config) -> Iterator[Listener]:
    """Make the listener of /metrics: plain, and wherever it is wanted, since it tells numbers and takes nothing."""
    try:
        for listener in _make(parse_host(config.metrics_addr), replace(config, tlsverify=True), {}, METRICS):
            listener.is_encrypted = False
            yield listener
    except ConfigError as error:
        raise ConfigError(f"metrics-addr: {str(error).removeprefix('hosts: ')}") from None


def _hosts(config: Config, handed_over: Mapping[int, str]) -> tuple[str, ...]:
    """Return where to listen: if nobody says, on what systemd has handed over."""
    if not handed_over:
        return config.api_hosts
    check_activation(config)
    return config.hosts or ("fd://",)


def check_activation(config: Config) -> None:
    """Systemd has sockets for us, and goes on listening on them: somebody must answer there. Raises ConfigError."""
    if config.hosts and not any(host.startswith("fd://") for host in config.hosts):
        raise ConfigError(
            "hosts: systemd listens for us (dockyard.socket), and nobody would answer there: add fd:// to hosts"
        )


def _make(parsed: Host, config: Config, handed_over: dict[int, str], number: int) -> Iterator[Listener]:
    host = parsed.address
    scheme, separator, address = host.rpartition("://")
    if scheme == "unix" and address.startswith("/"):
        if Path(address).exists() and not Path(address).is_socket():
            raise ConfigError(f"hosts: {address} is there, and is not a socket")
        group = config.group if parsed.group is None else parsed.group
        mode = 0o660 if parsed.mode is None else parsed.mode
        yield Listener(f"api{number}", group=_group(group), mode=mode, path=address)
    elif scheme == "fd":
        yield from _inherit(host, address, config, handed_over)
    elif scheme == "tcp" or not separator:
        yield _tcp(f"api{number}", host, address, config)
    else:
        raise ConfigError(f"hosts: {host!r} is none of unix:///PATH, [tcp://]ADDRESS:PORT, fd://[NAME]")


def _tcp(name: str, host: str, address: str, config: Config) -> Listener:
    """ADDRESS:PORT; no address, or localhost, is 127.0.0.1. Names are not looked up: who knows what they lead to."""
    where, _, port = address.rpartition(":")
    where = "127.0.0.1" if where in ("", "localhost") else where.strip("[]")
    try:
        if not 0 < int(port) < 1 << 16:  # getaddrinfo(3) would take it modulo 65536
            raise ValueError(port)
        family = socket.AF_INET6 if ipaddress.ip_address(where).version == 6 else socket.AF_INET
    except ValueError:
        raise ConfigError(f"hosts: {host!r} is not [tcp://]ADDRESS:PORT") from None
    _guard(host, where, config)
    return Listener(name, host=where, port=int(port), family=family, is_encrypted=config.serves_tls)


def _guard(host: str, address: str, config: Config) -> None:
    """Whoever may use the API is root here."""
    if ipaddress.ip_address(address.partition("%")[0]).is_loopback or config.tlsverify:
        return
    if not config.insecure_tcp:
        raise ConfigError(
            f"hosts: {host!r} is not a loopback address, and whoever reaches it would be root on this host; "
            "set tlsverify, or insecure-tcp"
        )
    log.warning(WARNING, host)


def _inherit(host: str, name: str, config: Config, handed_over: dict[int, str]) -> Iterator[Listener]:
    """Yield the sockets of that name or number, or all; each is given once."""
    wanted = [fd for fd, known_as in handed_over.items() if name in ("", "*", known_as, str(fd))]
    if not wanted:
        raise ConfigError(f"hosts: {host!r}: no such socket was handed over in LISTEN_FDS")
    for descriptor in wanted:
        del handed_over[descriptor]
        listener = InheritedListener(f"fd{descriptor}", descriptor)
        yield listener
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ConfigError(f"hosts: {host!r}: descriptor {descriptor} is not a listening socket")
        if listener.family in (socket.AF_INET, socket.AF_INET6):
            _guard(host, listener.getsockname()[0], config)
            listener.is_encrypted = config.serves_tls


def _handed_over(environ: Mapping[str, str]) -> dict[int, str]:
    """Return descriptor → name of what was given to this process, and to no other: sd_listen_fds(3)."""
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit():
        return {}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    return {FIRST_FD + index: names[index] if index < len(names) else "" for index in range(int(count))}


def _group(name: str) -> int:
    """Return the group's id: root's for none, and where the default one does not exist. Errors: ConfigError."""
    if not name:
        return 0
    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError:
        if name == "docker":
            return 0
        raise ConfigError(f"group: no such group: {name}") from None
