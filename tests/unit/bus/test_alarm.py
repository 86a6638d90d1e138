"""An alarm is an event that wakes who polls, and nobody else's file."""

from __future__ import annotations

import os
import select
import threading
import time

from shared.bus.alarm import Alarm


def readable(found: Alarm | int, seconds: float) -> bool:
    poller = select.poll()
    poller.register(found, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def test_it_wakes_who_polls_and_stays_set() -> None:
    alarm = Alarm()
    assert not readable(alarm, 0)
    began = time.monotonic()
    threading.Timer(0.05, alarm.set).start()
    assert readable(alarm, 30)
    assert time.monotonic() - began < 15
    assert alarm.is_set() and alarm.wait(0)
    alarm.set()
    assert readable(alarm, 0)


def test_what_is_set_after_the_end_is_written_nowhere() -> None:
    reading, writing = os.pipe2(os.O_NONBLOCK)
    alarm = Alarm()
    number = alarm.fileno()
    alarm.close()
    alarm.close()
    try:
        os.dup2(writing, number)
        alarm.set()
        assert alarm.is_set()
        assert not readable(reading, 0)
    finally:
        for descriptor in {reading, writing, number}:
            os.close(descriptor)


def test_who_forgets_it_has_closed_it() -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for _ in range(200):
        Alarm()
    assert len(os.listdir("/proc/self/fd")) < before + 100  # noqa: PTH208
