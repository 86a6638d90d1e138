"""Driver: what one way of connecting a container (a network mode) must offer. The namespace is there already.

Every method may be called again, also after a crash in the middle of it; a driver keeps nothing that it cannot rebuild
from the leases and the kernel. OSError and NftError pass through; the caller turns them into ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from services.netdriver.host import Host
from services.netdriver.leases import Lease
from services.netdriver.netns import Namespace
from services.netdriver.ports import Request
from shared.protocol import AllocatedPort, AllocateInterface, Bridge, Interface

__all__ = ["Driver"]


class Driver(Protocol):
    def init(self, leases: Sequence[Lease], host: Host | None = None) -> Bridge:
        """Make or mend what all containers share; the first call counts what ``leases`` hold as taken.

        ``host``: as it was read a moment ago, so that it need not be read again. Raises Conflict, Unavailable.
        """
        ...

    @property
    def external(self) -> bool:
        """Tell whether it leads out: default route and published ports may go through it."""
        ...

    def reserve(self, job: AllocateInterface) -> Interface:
        """Choose address and ports without touching links or rules; ``netns`` and ``name`` are left to the caller.

        On failure nothing stays reserved. Raises InvalidArgument, Conflict, Unavailable.
        """
        ...

    def reserve_ports(self, wanted: Request) -> list[AllocatedPort]:
        """Choose one more host port, of each address that is asked for; on failure nothing stays reserved.

        Errors as `reserve`.
        """
        ...

    def adopt(self, ports: Sequence[AllocatedPort]) -> list[AllocatedPort]:
        """Return another network's ports as this one has them, each once; what it has no use for is given back.

        On failure nothing is given back. Errors as `reserve`.
        """
        ...

    def connect(self, lease: Lease, namespace: Namespace) -> None:
        """Make links, addresses and rules as the lease says, whatever is there; what a failure leaves, stays."""
        ...

    def publish(self, lease: Lease) -> None:
        """Make the rules for the lease's ports; `connect` does this too."""
        ...

    def unpublish(self, lease: Lease) -> None:
        """Take the rules for the lease's ports away, and keep the ports: another driver publishes them."""
        ...

    def lead_out(self, lease: Lease, namespace: Namespace) -> None:
        """Have those default routes go through the lease's interface that it has; `connect` does this too."""
        ...

    def is_connected(self, lease: Lease) -> bool:
        """Tell whether `connect` was carried out to its end, and still holds."""
        ...

    def disconnect(self, lease: Lease) -> None:
        """Undo `connect` and `reserve`; what is not there is no error. Links go when the namespace goes."""
        ...

    def detach(self, lease: Lease) -> None:
        """Remove the link of a namespace that stays; after `disconnect`. What is not there is no error."""
        ...

    def sweep(self, leases: Callable[[], Sequence[Lease]]) -> None:
        """Remove every link of ours that none of the leases has; ``leases`` is asked after the kernel."""
        ...
