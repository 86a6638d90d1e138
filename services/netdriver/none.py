"""NoneDriver: a namespace with nothing but ``lo``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.netdriver.host import Host
from services.netdriver.leases import Lease
from services.netdriver.netns import Namespace
from services.netdriver.ports import Request
from shared.protocol import AllocatedPort, AllocateInterface, Bridge, Conflict, Interface

__all__ = ["NoneDriver"]


class NoneDriver:
    """The `Driver` of mode ``none``: all that it promises is there when the namespace is. Ports are ignored."""

    def init(self, leases: Sequence[Lease], host: Host | None = None) -> Bridge:
        return Bridge(name="none", address="", subnet="", mtu=0)

    external = False

    def reserve(self, job: AllocateInterface) -> Interface:
        return Interface(mode="none")

    def reserve_ports(self, wanted: Request) -> list[AllocatedPort]:
        raise Conflict("a container without a network cannot publish ports")

    def adopt(self, ports: Sequence[AllocatedPort]) -> list[AllocatedPort]:
        return list(ports)

    def connect(self, lease: Lease, namespace: Namespace) -> None:
        pass

    def publish(self, lease: Lease) -> None:
        pass

    def unpublish(self, lease: Lease) -> None:
        pass

    def lead_out(self, lease: Lease, namespace: Namespace) -> None:
        pass

    def is_connected(self, lease: Lease) -> bool:
        return True

    def disconnect(self, lease: Lease) -> None:
        pass

    def detach(self, lease: Lease) -> None:
        pass

    def sweep(self, leases: Callable[[], Sequence[Lease]]) -> None:
        pass
