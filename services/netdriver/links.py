"""Links: what one container may reach of another although containers are shut off from each other.

A link is kept in the lease of who may (the parent), so it comes back after a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import msgspec

from services.netdriver.firewall import Firewall
from services.netdriver.leases import Lease, Leases, Peer
from services.netdriver.ports import request
from shared.protocol import InvalidArgument, LinkContainers

__all__ = ["Links"]


class Links:
    """``icc``: nobody is shut off, and links are nothing; ``locked``: keeps a container's leases to who asks."""

    def __init__(
        self,
        leases: Leases,
        firewall: Firewall,
        *,
        icc: bool,
        locked: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._leases, self._firewall, self._icc, self._locked = leases, firewall, icc, locked

    def change(self, job: LinkContainers) -> None:
        """Carry out `LinkContainers`."""
        if job.action not in ("-I", "-D"):
            raise InvalidArgument(f"link: the action is -I or -D, not {job.action!r}")
        leases = {lease.interface.address: lease for lease in self._leases.all() if lease.interface.address}
        for address in (job.parent_ip, job.child_ip):
            if address not in leases and not job.ignore_errors:
                raise InvalidArgument(f"link: no container has the address {address}")
        parent, child = leases.get(job.parent_ip), leases.get(job.child_ip)
        if self._icc or parent is None or child is None:
            return
        peers = [_peer(child, text) for text in job.ports]
        with self._locked(parent.container):
            lease = self._leases.get(*parent.key)
            if lease is None:
                return
            kept = [peer for peer in lease.peers if peer not in peers and self._is_present(peer)]
            wanted = [*kept, *peers] if job.action == "-I" else kept
            if wanted != lease.peers:
                self._leases.put(msgspec.structs.replace(lease, peers=wanted))
            if job.action == "-I":
                self._firewall.link(job.parent_ip, peers)
            else:
                self._firewall.unlink(job.parent_ip, peers)

    def restore(self, leases: list[Lease]) -> None:
        """Have the links that leases keep, of those who are still there."""
        for lease in leases:
            self._firewall.link(lease.interface.address, filter(self._is_present, lease.peers))

    def _is_present(self, peer: Peer) -> bool:
        """Say whether an address is still the one's who was linked to."""
        lease = self._leases.get(peer.container)
        return lease is not None and (lease.generation, lease.interface.address) == (peer.generation, peer.address)


def _peer(child: Lease, text: str) -> Peer:
    """Read a port as ``80/tcp``. Raises InvalidArgument."""
    number, _, protocol = text.partition("/")
    wanted = request(number, protocol or "tcp", "0.0.0.0", "")
    return Peer(
        container=child.container,
        generation=child.generation,
        address=child.interface.address,
        protocol=wanted.protocol,
        port=wanted.container_port,
    )
