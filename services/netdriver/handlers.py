"""The netdriver's jobs, and which drivers serve them."""

from __future__ import annotations

from services.netdriver.bridge import BridgeDriver
from services.netdriver.driver import Driver
from services.netdriver.firewall import Firewall
from services.netdriver.netdriver import NetDriver
from services.netdriver.none import NoneDriver
from shared.bus.handlers import Handlers
from shared.protocol import (
    AllocatedPort,
    AllocateInterface,
    AllocatePort,
    Bridge,
    BridgeNetwork,
    InitNetworkDriver,
    Interface,
    LinkContainers,
    ListDenials,
    ListInterfaces,
    MakeNetwork,
    ReleaseInterface,
    UnmakeNetwork,
)
from shared.runtime.config import Config

__all__ = ["drivers", "jobs"]

jobs: Handlers[NetDriver] = Handlers()


def drivers(config: Config, firewall: Firewall) -> dict[str, Driver]:
    """Return network mode → driver of who is in no user-defined network; with ``bridge = none`` none is a bridge's."""
    found: dict[str, Driver] = {"none": NoneDriver()}
    if config.bridge != "none":
        found["bridge"] = BridgeDriver(config, firewall)
    return found


@jobs.handles(InitNetworkDriver)
def init(netdriver: NetDriver, job: InitNetworkDriver) -> Bridge:
    return netdriver.init(job.containers, job.networks, job.connected, exact=job.exact)


@jobs.handles(MakeNetwork)
def make_network(netdriver: NetDriver, job: MakeNetwork) -> BridgeNetwork:
    return netdriver.make_network(job)


@jobs.handles(UnmakeNetwork)
def unmake_network(netdriver: NetDriver, job: UnmakeNetwork) -> None:
    netdriver.unmake_network(job)


@jobs.handles(AllocateInterface)
def allocate(netdriver: NetDriver, job: AllocateInterface) -> Interface:
    return netdriver.allocate(job)


@jobs.handles(ReleaseInterface)
def release(netdriver: NetDriver, job: ReleaseInterface) -> None:
    netdriver.release(job.container, job.generation, job.network)


@jobs.handles(AllocatePort)
def publish(netdriver: NetDriver, job: AllocatePort) -> AllocatedPort:
    return netdriver.publish(job)


@jobs.handles(LinkContainers)
def link(netdriver: NetDriver, job: LinkContainers) -> None:
    netdriver.link(job)


@jobs.handles(ListDenials)
def denials(netdriver: NetDriver, job: ListDenials) -> list[str]:
    return netdriver.firewall.denials()


@jobs.handles(ListInterfaces)
def interfaces(netdriver: NetDriver, job: ListInterfaces) -> dict[str, list[Interface]]:
    return netdriver.interfaces(job.container)
