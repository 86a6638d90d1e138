"""Networks: the user-defined networks, one file each, written before anything of it is made.

The file goes last, when bridge and rules are gone; so a removal that was cut short is taken up again. Which networks
there should be is the engine's to say (`sync`); until it has, what the files say is right.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path

import msgspec

from services.netdriver.bridge import BridgeDriver
from services.netdriver.host import Host, has_ipv6
from services.netdriver.ipam import Network, first_free, unique_local
from services.netdriver.leases import Lease
from services.netdriver.macvlan import LinkDriver
from services.netdriver.netlink import Rtnl
from shared.protocol import (
    BridgeNetwork,
    Conflict,
    DockyardError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unavailable,
)
from shared.runtime.values import parse_pool

__all__ = ["Networks"]

NETWORK_ID = re.compile(r"[0-9a-f]{64}")  # it becomes a path
log = logging.getLogger("dockyard.netdriver")


class Networks:
    """Thread-safe. ``default``: the driver whose siblings those of the bridges are: the default bridge's."""

    def __init__(self, directory: Path, pools: Sequence[str], default: BridgeDriver) -> None:
        self._directory, self._pools, self._default = directory, pools, default
        self._lock = threading.RLock()
        self._drivers: dict[str, BridgeDriver | LinkDriver] = {}
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in directory.iterdir():
            self._load(path, default)

    def _load(self, path: Path, default: BridgeDriver) -> None:
        if path.suffix != ".json":  # cut short
            path.unlink(missing_ok=True)
            return
        try:
            network = msgspec.json.decode(path.read_bytes(), type=BridgeNetwork)
        except (OSError, msgspec.DecodeError) as error:
            log.warning("network is unreadable, dropped path=%s error=%s", path, error)
            path.unlink(missing_ok=True)
            return
        self._drivers[network.id] = _driver(default, network)

    def __iter__(self) -> Iterator[BridgeDriver | LinkDriver]:
        with self._lock:
            return iter(list(self._drivers.values()))

    def find(self, network: str) -> BridgeDriver | LinkDriver:
        """Return a network's driver. Raises NotFound."""
        driver = self._drivers.get(network)
        if driver is None:
            raise NotFound(f"network {network} not found")
        return driver

    def name_of(self, network: str) -> str:
        """Return a network's name; empty if there is no such network."""
        driver = self._drivers.get(network)
        return driver.network.name if driver is not None and driver.network is not None else ""

    def iface_prefix(self, network: str) -> str:
        """Return what the names of links inside begin with."""
        driver = self._drivers.get(network)
        return driver.network.iface_prefix if driver is not None and driver.network is not None else ""

    @contextmanager
    def kept(self, network: str) -> Iterator[None]:
        """Keep a network from being removed while a lease in it is written. Raises NotFound."""
        if not network:
            yield
            return
        with self._lock:
            self.find(network)
            yield

    def make(self, wanted: BridgeNetwork) -> BridgeNetwork:
        """Carry out `MakeNetwork`."""
        default = self._default
        if not default.enforces and (wanted.internal or not wanted.icc):
            raise InvalidArgument("a network cannot be shut without rules: firewall = false")
        if wanted.ipv6 and not has_ipv6():
            raise InvalidArgument("this host's kernel has no IPv6")
        with self._lock:
            driver = self._drivers.get(wanted.id)
            if driver is not None and driver.network is not None:
                driver.init(())
                return driver.network
            with Rtnl() as rtnl:
                host = Host.read(rtnl)
            network = self._complete(wanted, host)
            for other in self:
                if other.network is not None and network.bridge and other.network.bridge == network.bridge:
                    mine, its = f"{network.id} ({network.bridge})", f"{other.network.id} ({network.bridge})"
                    why = "networks have same bridge name"
                    raise PermissionDenied(f"cannot create network {mine}: conflicts with network {its}: {why}")
            if network.bridge in host.links and network.bridge != own_name(network):
                raise Conflict(f"a link named {network.bridge} exists already")
            driver = _driver(default, network)
            if isinstance(driver, LinkDriver):
                driver.check()
            self._write(network)
            self._drivers[network.id] = driver
            try:
                driver.init((), host)
            except Exception:
                self._remove(network, driver)
                raise
            return network

    def _complete(self, wanted: BridgeNetwork, host: Host) -> BridgeNetwork:
        """Return it with all that is not given. Raises as `make`."""
        others = [ip_network(text) for driver in self for text in driver.subnets]
        mine = [ip_network(text) for text in self._default.subnets]
        changes: dict[str, str] = {}
        for version, end, given, gateway in (
            (4, "", wanted.subnet, wanted.gateway),
            (6, "6", wanted.subnet6, wanted.gateway6),
        ):
            if not (wanted.ipv4 if version == 4 else wanted.ipv6):
                continue
            subnet = ip_network(given) if given else self._choose(wanted, version, [*others, *host.taken()])
            if given and any(_overlap(subnet, other) for other in (*others, *mine)):
                raise PermissionDenied("invalid pool request: Pool overlaps with other one on this address space")
            changes[f"subnet{end}"] = str(subnet)
            needless = wanted.driver == "bridge" and wanted.internal and not wanted.is_addressed(version)
            own = "" if gateway or needless else _first_address(subnet, wanted.auxiliary.values())
            changes[f"gateway{end}"] = gateway or own
        if wanted.driver == "bridge":
            changes["bridge"] = wanted.bridge or own_name(wanted)
        return msgspec.structs.replace(wanted, **changes)

    def _choose(self, wanted: BridgeNetwork, version: int, taken: Sequence[Network]) -> Network:
        """Return a subnet that overlaps nothing taken. Raises InvalidArgument (none is left), Unavailable."""
        if version == 4 or any(parse_pool(text)[0].version == 6 for text in self._pools):
            return first_free(self._pools, taken, version)
        subnet = unique_local(wanted.id)
        if any(_overlap(subnet, other) for other in taken):
            raise Unavailable(f"{subnet}, unique though it should be, is taken: create the network again")
        return subnet

    def remove(self, network: str, leases: Callable[[], Sequence[Lease]]) -> None:
        """Carry out `UnmakeNetwork`."""
        with self._lock:
            driver = self._drivers.get(network)
            if driver is None or driver.network is None:
                return
            inside = [lease.container for lease in leases() if lease.interface.network == network]
            if inside:
                raise PermissionDenied(f"network {driver.network.name} has active endpoints ({', '.join(inside)})")
            self._remove(driver.network, driver)

    def _remove(self, network: BridgeNetwork, driver: BridgeDriver | LinkDriver) -> None:
        driver.remove()
        self._path(network.id).unlink(missing_ok=True)
        self._drivers.pop(network.id, None)

    def init(self, leases: Sequence[Lease]) -> None:
        """Make or mend all of them, with what ``leases`` hold; one that cannot be stops no other."""
        held: dict[str, list[Lease]] = {}
        for lease in leases:
            held.setdefault(lease.interface.network, []).append(lease)
        with Rtnl() as rtnl:
            host = Host.read(rtnl)
        for driver in self:
            network = driver.network.id if driver.network else ""
            try:
                driver.init(held.get(network, []), host)
            except (DockyardError, OSError) as error:
                log.error("network cannot be made network=%s error=%s", network, error)

    def sync(self, wanted: Iterable[BridgeNetwork]) -> None:
        """Make those that are wanted and not there."""
        for network in wanted:
            try:
                self.make(network)
            except (DockyardError, OSError) as error:
                log.error("network cannot be made network=%s error=%s", network.id, error)

    def remove_all(self, unwanted: Iterable[str], leases: Callable[[], Sequence[Lease]]) -> None:
        """Remove what nobody wants."""
        for network in unwanted:
            log.info("network removed network=%s", network)
            try:
                self.remove(network, leases)
            except (DockyardError, OSError) as error:
                log.error("network cannot be removed network=%s error=%s", network, error)

    def _write(self, network: BridgeNetwork) -> None:
        temporary = self._path(network.id).with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(network))
        temporary.replace(self._path(network.id))

    def _path(self, network: str) -> Path:
        if not NETWORK_ID.fullmatch(network):
            raise InvalidArgument(f"a network's id is 64 hexadecimal digits, not {network!r}")
        return self._directory / f"{network}.json"


def _driver(default: BridgeDriver, network: BridgeNetwork) -> BridgeDriver | LinkDriver:
    return default.sibling(network) if network.driver == "bridge" else LinkDriver(network)


def own_name(network: BridgeNetwork) -> str:
    """Return the name of a network's bridge that was given none."""
    return f"br-{network.id[:12]}"


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _first_address(subnet: Network, taken: Iterable[str]) -> str:
    """Return the first address that nobody else is to have. Raises InvalidArgument."""
    others = {ip_address(address) for address in taken}
    for offset in range(1, subnet.num_addresses - 1):
        if (address := subnet.network_address + offset) not in others:
            return str(address)
    raise InvalidArgument(f"no address is left in {subnet} for the bridge")
