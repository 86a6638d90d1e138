"""Checking: whether the configuration can be carried out on this host as it is, before anything is done for it.

Nothing is changed on the host here: a netdriver may be at work in the same directory.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Iterator
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

log = logging.getLogger("dockyard.netdriver")


def check(config: Config) -> Config:
    """Check what would keep a netdriver from its work for ever. Raises ConfigError.

    Returns the configuration with the bridge that containers are on, if that is another.
    """
    host, leases = _host(), list(_leases_of_default(config.run / "leases"))
    there = _other_bridge(config, host, leases)
    if there:
        log.warning("the bridge stays %s while containers are connected to it bridge=%s", there, config.bridge)
        config = dataclasses.replace(config, bridge=there)
    _check_addresses(config, host, leases, strict=False)
    return config


def check_change(config: Config) -> None:
    """Check what a running stack is to take over: containers stay where they are. Raises ConfigError."""
    host, leases = _host(), list(_leases_of_default(config.run / "leases"))
    there = _other_bridge(config, host, leases)
    if there:
        raise ConfigError(f"bridge ({config.bridge}) cannot be changed: containers are connected to {there}")
    _check_addresses(config, host, leases, strict=True)


def _host() -> Host:
    try:
        with Rtnl() as rtnl:
            return Host.read(rtnl)
    except OSError as error:
        raise ConfigError(f"rtnetlink: {error}") from None


def _check_addresses(config: Config, host: Host, leases: Iterable[Lease], *, strict: bool) -> None:
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


def _other_bridge(config: Config, host: Host, leases: Iterable[Lease]) -> str:
    """Return the bridge that a container is on, if it is not the configured one: it would be moved."""
    names = {link.index: link.name for link in host.links.values()}
    for lease in leases:
        link = host.links.get(veth_name(lease))
        bridge = names.get(link.master, "") if link is not None else ""
        if bridge not in ("", config.bridge):
            return bridge
    return ""
