"""Watch: wait in the kernel until a file is written to (inotify(7)), so that who follows it reads at once.

`Watch` is of one file, among all that a process follows; `Watches` of many for one reader, each known by its owner.
A user has 128 inotify instances, containers of root's among them: a process takes one for each kind, not one for each.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from shared.bus.alarm import Alarm

__all__ = ["Watch", "Watches"]

SETTLE = 0.005  # seconds for more to come: a writer of many short lines does not wake the reader for each
IN_MODIFY, IN_CLOEXEC, IN_NONBLOCK = 0x2, os.O_CLOEXEC, os.O_NONBLOCK
IN_ATTRIB, IN_MOVE_SELF, IN_DELETE_SELF = 0x4, 0x800, 0x400  # the first: also that a name of several has gone
FOLLOWED = IN_MODIFY | IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF
IN_IGNORED = 0x8000  # the file has gone, and its watch with it
EVENTS = 4096  # bytes
EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name that follows
libc = ctypes.CDLL(None, use_errno=True)


def _events(notify: int) -> Iterator[tuple[int, int]]:
    """Yield what there is to read: (watch, mask)."""
    with contextlib.suppress(BlockingIOError):
        while data := os.read(notify, EVENTS):
            at = 0
            while at < len(data):
                watch, mask, _, length = EVENT.unpack_from(data, at)
                at += EVENT.size + length
                yield watch, mask


class _Followed:
    """All files that this process follows, each by any number of `Watch`. Made at the first."""

    _lock = threading.Lock()
    _instance: _Followed | None = None

    @classmethod
    def here(cls) -> _Followed:
        with cls._lock:
            if cls._instance is None:
                cls._instance = cls()
            return cls._instance

    def __init__(self) -> None:
        self._notify = libc.inotify_init1(IN_CLOEXEC | IN_NONBLOCK)
        self._alarms: dict[int, set[Alarm]] = {}  # by watch: of one file there is but one
        if self._notify >= 0:
            threading.Thread(target=self._tell, name="followed", daemon=True).start()

    def add(self, descriptor: int, alarm: Alarm) -> int:
        """Set an alarm whenever the open file is written to; returns its watch, negative if the kernel has no more."""
        with self._lock:
            path = b"/proc/self/fd/%d" % descriptor
            watch = int(libc.inotify_add_watch(self._notify, path, FOLLOWED)) if self._notify >= 0 else -1
            if watch >= 0:
                self._alarms.setdefault(watch, set()).add(alarm)
            return watch

    def drop(self, watch: int, alarm: Alarm) -> None:
        with self._lock:
            alarms = self._alarms.get(watch, set())
            alarms.discard(alarm)
            if not alarms and self._alarms.pop(watch, None) is not None:
                libc.inotify_rm_watch(self._notify, watch)

    def _tell(self) -> None:
        poller = select.poll()
        poller.register(self._notify, select.POLLIN)
        while True:
            poller.poll()
            with self._lock:
                for watch, mask in _events(self._notify):
                    for alarm in self._alarms.get(watch, ()):
                        alarm.set()
                    if mask & IN_IGNORED:
                        self._alarms.pop(watch, None)
            time.sleep(SETTLE)


class Watch:
    """One file, from now on. Where the kernel has no more watches to give, it is a pause and no more."""

    def __init__(self, descriptor: int, alarms: Sequence[Alarm] = ()) -> None:
        """``descriptor``: the open file; it may be closed meanwhile. ``alarms`` end the wait too."""
        self._written, self._alarms = Alarm(), alarms
        self._watch = _Followed.here().add(descriptor, self._written)

    @property
    def is_told(self) -> bool:
        """Whether the kernel tells of the file; else it must be looked at again and again."""
        return self._watch >= 0

    def wait(self, seconds: float, wait: Callable[[float], bool]) -> bool:
        """Wait until it is written to or gets another name, or an alarm is set, at most so long.

        ``wait`` waits instead, and says whether to give up.
        """
        if self._watch < 0:
            return wait(seconds)
        poller = select.poll()
        for alarm in (self._written, *self._alarms):
            poller.register(alarm, select.POLLIN)
        poller.poll(seconds * 1000)
        self._written.clear()
        return wait(0)

    def close(self) -> None:
        if self._watch >= 0:
            _Followed.here().drop(self._watch, self._written)
        self._watch = -1


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

    def close(self) -> None:
        """Give the kernel's instance back; by who waits. Nothing is watched afterwards."""
        with self._lock:
            if self._notify >= 0:
                os.close(self._notify)
            self._notify = -1
            self._owners.clear()

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
            for watch, mask in _events(self._notify):
                if mask & IN_IGNORED:
                    self._owners.pop(watch, None)
                elif watch in self._owners:
                    touched.add(self._owners[watch])
        return touched
