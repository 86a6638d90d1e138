"""Watch: wait in the kernel until a file is written to (inotify(7)), so that who follows it reads at once.

`Watch` is of one file; `Watches` of many, each known by its owner.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["Watch", "Watches"]

SETTLE = 0.005  # seconds for more to come: a writer of many short lines does not wake the reader for each
IN_MODIFY, IN_CLOEXEC, IN_NONBLOCK = 0x2, os.O_CLOEXEC, os.O_NONBLOCK
IN_IGNORED = 0x8000  # the file has gone, and its watch with it
EVENTS = 4096  # bytes
EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
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


class Watches:
    """Files that are written to, by the name of who owns them. Thread-safe, but for `wait`, which one thread calls."""

    def __init__(self) -> None:
        self._notify = libc.inotify_init1(IN_CLOEXEC | IN_NONBLOCK)
        self._owners: dict[int, str] = {}  # by watch
        self._lock = threading.Lock()

    def add(self, owner: str, path: Path) -> None:
        """Watch the file that is at ``path`` now, be it moved. One that cannot be watched is not."""
        with self._lock:
            watch = libc.inotify_add_watch(self._notify, os.fsencode(path), IN_MODIFY)
            if watch >= 0:
                self._owners[watch] = owner

    def drop(self, owner: str) -> None:
        """Watch nothing of an owner's any more."""
        with self._lock:
            for watch in [watch for watch, other in self._owners.items() if other == owner]:
                libc.inotify_rm_watch(self._notify, watch)
                del self._owners[watch]

    def wait(self, seconds: float) -> set[str]:
        """Return whose files were written to: at once if any was, else none after so long."""
        if self._notify < 0:
            time.sleep(seconds)
            return set()
        poller = select.poll()
        poller.register(self._notify, select.POLLIN)
        poller.poll(seconds * 1000)
        touched = set()
        with self._lock:
            for watch, mask in self._events():
                if mask & IN_IGNORED:
                    self._owners.pop(watch, None)
                elif watch in self._owners:
                    touched.add(self._owners[watch])
        return touched

    def _events(self) -> Iterator[tuple[int, int]]:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._notify, EVENTS):
                at = 0
                while at < len(data):
                    watch, mask, _, length = EVENT.unpack_from(data, at)
                    at += EVENT.size + length
                    yield watch, mask
