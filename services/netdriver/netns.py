"""Network namespaces that outlive us: each is bind-mounted on a file, as ip-netns(8) does it.

A thread that enters a namespace comes back before it does anything else; if it cannot, the process ends. (A thread of
its own for each would be one more wait for a processor: on a busy machine longer than all the rest.)
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from services.netdriver.netlink import Rtnl, set_link

__all__ = ["OWN", "Namespace", "exists", "inside", "open_namespace", "remove"]

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MNT_DETACH = 2
OWN = "/proc/thread-self/ns/net"  # the calling thread's
libc = ctypes.CDLL(None, use_errno=True)
log = logging.getLogger("dockyard.netdriver")


@dataclass(frozen=True)
class Namespace:
    """An open namespace: ``fd`` names it to the kernel, ``rtnl`` talks to it."""

    fd: int
    rtnl: Rtnl


def exists(path: Path) -> bool:
    """Tell whether a namespace is mounted on ``path``; a plain file is what a crash left."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except FileNotFoundError:
        return False


@contextmanager
def open_namespace(path: Path) -> Iterator[Namespace]:
    """Open the namespace at ``path``; make it, with ``lo`` up, if it is not there. Raises OSError."""
    fd, rtnl = _and_back(lambda: _enter(path) if exists(path) else _make(path))
    try:
        yield Namespace(fd, rtnl)
    finally:
        rtnl.close()
        os.close(fd)


def inside(path: Path, function: Callable[[], T]) -> T:
    """Return what ``function`` returns in the namespace at ``path``. Raises OSError, and what it raises."""

    def enter() -> T:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(libc.setns(fd, CLONE_NEWNET), path)
        finally:
            os.close(fd)
        return function()

    return _and_back(enter)


def remove(path: Path) -> None:
    """Take the name away; the kernel destroys a namespace, and the links in it, when no process uses it. Idempotent."""
    if exists(path):
        _check(libc.umount2(os.fsencode(path), MNT_DETACH), path)
    path.unlink(missing_ok=True)


def _make(path: Path) -> tuple[int, Rtnl]:
    """The mount comes last: a namespace that can be seen is complete."""
    _check(libc.unshare(CLONE_NEWNET), path)
    rtnl = Rtnl()
    rtnl.run(set_link("lo", up=True))
    # no network of ours is IPv6 yet: a link-local address would only bring duplicate detection and solicitations
    disable_ipv6 = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
    if disable_ipv6.exists():
        disable_ipv6.write_text("1")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    _check(libc.mount(OWN.encode(), os.fsencode(path), b"", MS_BIND, None), path)
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC), rtnl


def _enter(path: Path) -> tuple[int, Rtnl]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    _check(libc.setns(fd, CLONE_NEWNET), path)
    return fd, Rtnl()


def _and_back(function: Callable[[], T]) -> T:
    """Run ``function``, which may enter a namespace, and have the thread where it was whatever comes of it."""
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return function()
    finally:
        if libc.setns(home, CLONE_NEWNET) != 0:  # it would go on as if it were the host's
            log.critical("thread cannot leave a namespace errno=%d", ctypes.get_errno())
            os._exit(os.EX_OSERR)
        os.close(home)


def _check(status: int, path: Path) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
