"""Alarm: an event that poll(2) sees, so that who waits for something of the kernel's is woken by another thread."""

from __future__ import annotations

import os
import select
import threading

__all__ = ["Alarm", "wait_for"]


class Alarm(threading.Event):
    """Readable while it is set, to its end or `close`; what is set after that is an event and no more."""

    _descriptor = -1

    def __init__(self) -> None:
        super().__init__()
        self._changing = threading.Lock()  # a number that is closed may be another's file a moment later
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """-1: closed."""
        return self._descriptor

    def set(self) -> None:
        with self._changing:
            is_new = not self.is_set()
            super().set()
            if is_new and self._descriptor >= 0:
                os.eventfd_write(self._descriptor, 1)

    def clear(self) -> None:
        with self._changing:
            if self._descriptor >= 0 and self.is_set():
                os.eventfd_read(self._descriptor)
            super().clear()

    def close(self) -> None:
        with self._changing:
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            self.close()


def wait_for(*alarms: Alarm) -> None:
    """Wait until one is set."""
    poller = select.poll()
    for alarm in alarms:
        poller.register(alarm, select.POLLIN)
    poller.poll()
