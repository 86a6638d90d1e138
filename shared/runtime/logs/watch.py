"""Watch: wait in the kernel until a file is written to (inotify(7)), so that who follows it reads at once."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
from collections.abc import Callable

__all__ = ["Watch"]

SETTLE = 0.005  # seconds for more to come: a writer of many short lines does not wake the reader for each
IN_MODIFY, IN_CLOEXEC, IN_NONBLOCK = 0x2, os.O_CLOEXEC, os.O_NONBLOCK
EVENTS = 4096  # bytes
libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """One file, from now on. Where the kernel has no more watches to give, it is a pause and no more."""

    def __init__(self, descriptor: int) -> None:
        """``descriptor``: the open file; it may be closed meanwhile."""
        self._notify = libc.inotify_init1(IN_CLOEXEC | IN_NONBLOCK)
        if self._notify >= 0 and libc.inotify_add_watch(self._notify, b"/proc/self/fd/%d" % descriptor, IN_MODIFY) < 0:
            self.close()

    def wait(self, seconds: float, wait: Callable[[float], bool]) -> bool:
        """Wait until it is written to, at most so long. ``wait`` waits instead, and says whether to give up."""
        if self._notify < 0:
            return wait(seconds)
        poller = select.poll()
        poller.register(self._notify, select.POLLIN)
        if not poller.poll(seconds * 1000):
            return wait(0)
        gone = wait(SETTLE)
        with contextlib.suppress(BlockingIOError):
            while os.read(self._notify, EVENTS):
                pass
        return gone

    def close(self) -> None:
        if self._notify >= 0:
            os.close(self._notify)
        self._notify = -1
