"""Checking: whether the configuration can be carried out on this host as it is, before anything is done for it.

Nothing is changed here: a netdriver may be at work in the same directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from services.netdriver.bridge import gateways_of
from services.netdriver.host import Host, Plan, choose_addresses
from services.netdriver.leases import Lease
from services.netdriver.netlink import Rtnl
from services.netdriver.veth import veth_name
from shared.protocol import DockyardError
from shared.runtime.config import Config, ConfigError

__all__ = ["check", "check_change"]


def check(config: Config) -> None:
    """Check what would keep a netdriver from its work for ever. Raises ConfigError."""
    _check(config, strict=False)


def check_change(config: Config) -> None:
    """Check what a running stack is to take over: containers stay where they are. Raises ConfigError."""
    _check(config, strict=True)


def _check(config: Config, *, strict: bool) -> None:
    leases = list(_leases_of_default(config.run / "leases"))
    try:
        with Rtnl() as rtnl:
            host = Host.read(rtnl)
    except OSError:  # a start tells why, in its own words
        return
    if strict:
        _check_name(config, host, leases)
    if config.bridge == "none":
        return
    known = [one for lease in leases for one in gateways_of(lease.interface)]
    try:
        choose_addresses(config, Plan.of_default(config, known), host, strict=strict)
    except DockyardError as error:
        raise ConfigError(error.message) from None


def _leases_of_default(directory: Path) -> Iterator[Lease]:
    """Yield those in the default bridge's network. Those that go meanwhile, or cannot be read, do not count."""
    for path in directory.glob("*.json"):
        try:
            lease = msgspec.json.decode(path.read_bytes(), type=Lease)
        except (OSError, msgspec.DecodeError):
            continue
        if lease.interface.mode == "bridge" and not lease.interface.network:
            yield lease


def _check_name(config: Config, host: Host, leases: list[Lease]) -> None:
    """Whose container is on another bridge would be moved there. Raises ConfigError."""
    names = {link.index: link.name for link in host.links.values()}
    for lease in leases:
        link = host.links.get(veth_name(lease))
        bridge = names.get(link.master, "") if link is not None else ""
        if bridge not in ("", config.bridge):
            raise ConfigError(f"bridge ({config.bridge}) cannot be changed: containers are connected to {bridge}")
