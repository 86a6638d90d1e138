"""Listeners: the API's sockets. The arbiter makes and owns them, so that no restart of a worker refuses a client."""

from __future__ import annotations

import grp
import ipaddress
import os
import socket
from pathlib import Path
from typing import Any

from circus.sockets import CircusSocket

from shared.runtime.config import Config, ConfigError

__all__ = ["Listener", "make_listeners"]

BACKLOG = 4096
MODE = 0o660


class Listener(CircusSocket):
    """A CircusSocket that is bound from the start; a unix one has mode 0660 and a group."""

    def __init__(self, name: str, group: int = -1, **address: Any) -> None:
        super().__init__(name, backlog=BACKLOG, umask=None, replace=True, **address)
        self.group = group
        self.listening = False

    def bind_and_listen(self) -> None:
        """Circus calls this again at its start."""
        if self.listening:
            return
        mask = os.umask(0o777 & ~MODE)
        try:
            super().bind_and_listen()
        finally:
            os.umask(mask)
        if self.path is not None:
            os.chown(self.path, -1, self.group)
        self.listening = True


def make_listeners(config: Config) -> list[Listener]:
    """Make the sockets of ``config.api_hosts``. Errors: ConfigError (not an address we serve), OSError.

    A stale path of an earlier stack is replaced: the caller holds the root's lock.
    """
    made = []
    for index, host in enumerate(config.api_hosts):
        listener = _make(f"api{index}", host, config)
        listener.bind_and_listen()
        made.append(listener)
    return made


def _make(name: str, host: str, config: Config) -> Listener:
    scheme, separator, address = host.partition("://")
    if scheme == "unix" and separator and address.startswith("/"):
        Path(address).parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        return Listener(name, _group(config.group), path=address)
    if scheme == "tcp" and separator:
        where, _, port = address.rpartition(":")
        try:
            is_local = ipaddress.ip_address(where.strip("[]")).is_loopback
            number = int(port)
            if not 0 < number < 1 << 16:  # getaddrinfo(3) would take it modulo 65536
                raise ValueError(port)
        except ValueError:
            raise ConfigError(f"hosts: {host!r} is not tcp://ADDRESS:PORT") from None
        if not is_local:
            raise ConfigError(f"hosts: {host!r} is not a loopback address, and there is no TLS to protect it")
        family = socket.AF_INET6 if ":" in where else socket.AF_INET
        return Listener(name, host=where.strip("[]"), port=number, family=family)
    raise ConfigError(f"hosts: {host!r} is neither unix:///PATH nor tcp://ADDRESS:PORT")


def _group(name: str) -> int:
    """Return the group's id; root's where there is no such group (the default one need not exist)."""
    try:
        return grp.getgrnam(name).gr_gid if name else 0
    except KeyError:
        return 0
