"""Shared memory: the /dev/shm of a container that others may join, or that joins another's (IpcMode).

| mode           | /dev/shm inside                                                             |
|----------------|-----------------------------------------------------------------------------|
| private        | a tmpfs of its own, which the runtime mounts                                |
| none           | nothing                                                                     |
| shareable      | a tmpfs that we mount in the bundle, bound                                  |
| container:ID   | the other's, bound; its start.json says where that is                       |
| host           | the host's, bound                                                           |
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from pathlib import Path

from services.execdriver.bundle import Bundle
from shared.protocol import DockyardError, HostConfig, InvalidArgument, joined_container

__all__ = ["mount", "place", "unmount"]

MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x2, 0x4, 0x8
MNT_DETACH, UMOUNT_NOFOLLOW = 0x2, 0x8
HOST = "/dev/shm"
libc = ctypes.CDLL(None, use_errno=True)


def place(host_config: HostConfig, bundle: Bundle, find: Callable[[str], Bundle]) -> str:
    """Return the directory of the host to bind; empty where the container has its own, or none.

    Errors: InvalidArgument (the other container does not share its).
    """
    mode = host_config.ipc_mode
    if mode in ("host", "shareable"):
        return HOST if mode == "host" else str(_own(bundle))
    donor = joined_container(mode)
    if not donor:
        return ""
    start = find(donor).start()
    if start is None or not start.shm:
        why = f"container {donor}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
        raise InvalidArgument(f"failed to join IPC namespace: {why}")
    return start.shm


def mount(bundle: Bundle, size: int) -> None:
    """Mount a tmpfs of ``size`` bytes for others to join. Errors: DockyardError."""
    path = _own(bundle)
    path.mkdir(mode=0o700)
    options = f"mode=1777,size={size}".encode()
    if libc.mount(b"shm", os.fsencode(path), b"tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options):
        raise DockyardError(f"shared memory not mounted: {os.strerror(ctypes.get_errno())}")


def unmount(bundle: Bundle) -> None:
    """Undo `mount`; what is not mounted is no error. Containers that have joined keep it."""
    if libc.umount2(os.fsencode(_own(bundle)), MNT_DETACH | UMOUNT_NOFOLLOW):
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOENT):
            raise DockyardError(f"shared memory not unmounted: {os.strerror(number)}")


def _own(bundle: Bundle) -> Path:
    return bundle.directory / "shm"
