"""Network namespaces that outlive us: each is bind-mounted on a file, as ip-netns(8) does it.

A thread that enters a namespace comes back before it does anything else; if it cannot, the process ends. (A thread of
its own for each would be one more wait for a processor: on a busy machine longer than all the rest.)
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from services.netdriver.netlink import Rtnl, set_link

__all__ = ["OWN", "Namespace", "exists", "inside", "make", "open_namespace", "remove"]

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MNT_DETACH = 2
OWN = "/proc/thread-self/ns/net"  # the calling thread's
DISABLE_IPV6 = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
libc = ctypes.CDLL(None, use_errno=True)
log = logging.getLogger("dockyard.netdriver")


@dataclass(frozen=True)
class Namespace:
    """An open namespace: ``fd`` names it to the kernel, ``rtnl`` talks to it."""

    fd: int
    rtnl: Rtnl

    def close(self) -> None:
        """One that has no name and no process ends, with the links in it."""
        self.rtnl.close()
        os.close(self.fd)


def exists(path: Path) -> bool:
    """Tell whether a namespace is mounted on ``path``; a plain file is what a crash left."""
    try:
        return path.stat().st_dev != path.parent.stat().st_dev
    except FileNotFoundError:
        return False


def make() -> Namespace:
    """Make a namespace with ``lo`` up, which ends when it is closed unless it has been given a name. Raises OSError."""

    def enter() -> Namespace:
        _check(libc.unshare(CLONE_NEWNET), OWN)
        rtnl = Rtnl()
        rtnl.run(set_link("lo", up=True))
        # no network of ours is IPv6 yet: a link-local address would only bring duplicate detection and solicitations
        if DISABLE_IPV6.exists():
            DISABLE_IPV6.write_text("1")
        return Namespace(os.open(OWN, os.O_RDONLY | os.O_CLOEXEC), rtnl)

    return _and_back(enter)


@contextmanager
def open_namespace(path: Path, make: Callable[[], Namespace] = make) -> Iterator[Namespace]:
    """Open the namespace at ``path``; if there is none, what ``make`` returns gets that name. Raises OSError."""
    with closing(_open(path) if exists(path) else make()) as namespace:
        if not exists(path):  # the mount comes last: a namespace that can be seen is complete
            path.touch(mode=0o600)
            _check(libc.mount(b"/proc/self/fd/%d" % namespace.fd, os.fsencode(path), b"", MS_BIND, None), path)
        yield namespace


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


def _open(path: Path) -> Namespace:
    def enter() -> Namespace:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        _check(libc.setns(fd, CLONE_NEWNET), path)
        return Namespace(fd, Rtnl())

    return _and_back(enter)


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


def _check(status: int, path: Path | str) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
