"""BoundedWatcher: counts those that end, whenever circus notices."""

from __future__ import annotations

import asyncio
import os

import pytest
from circus.process import Process

from services.ctl import watcher as watchers
from services.ctl.watcher import EX_CONFIG, BoundedWatcher


@pytest.mark.parametrize("status", [1, EX_CONFIG])
def test_one_that_ends_between_a_reaping_and_the_look_after_it_is_counted(status: int) -> None:
    async def look() -> None:
        watcher = BoundedWatcher("part", "sh", numprocesses=0)
        watcher.on_misconfigured = misconfigured.append
        watcher._status = "active"
        process = Process("part", 1, f"sh -c 'exit {status}'")
        watcher.processes[process.pid] = process
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        await watcher.manage_processes()
        assert not watcher.processes
        assert watcher.restarts() == 1

    misconfigured: list[str] = []
    asyncio.run(look())
    assert misconfigured == ["part"] * (status == EX_CONFIG)


def test_one_that_is_not_done_ending_when_circus_reaps_it_is_killed() -> None:
    """circus polls for it with its event loop stopped, and would for ever."""

    async def reap() -> None:
        watcher = BoundedWatcher("part", "sh", numprocesses=0)
        process = watcher.processes[0] = Process("part", 1, "sh -c 'trap : TERM; while :; do sleep 1; done'")
        watcher.processes = {process.pid: process}
        watcher.reap_process(process.pid)
        assert not watcher.processes
        assert not process.is_alive()

    asyncio.run(asyncio.wait_for(reap(), 30))


def test_the_first_that_ends_at_once_is_replaced_at_once_and_those_after_it_ever_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(watchers.time, "monotonic", lambda: now)
    watcher = BoundedWatcher("part", "sh", numprocesses=0)
    pauses = []
    for lived in (100.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 100.0, 0.5):
        born, now = now, now + lived
        watcher._plan_start(born)
        pauses.append(round(max(0.0, watcher._next_start - now), 3))
        now = max(now, watcher._next_start)
    assert pauses == [0.0, 0.0, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 0.0, 0.0]


def test_the_first_that_ends_at_once_is_replaced_at_once_and_the_others_later_and_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watcher, now = BoundedWatcher("part", "sh"), 1000.0
    monkeypatch.setattr("services.ctl.watcher.time.monotonic", lambda: now)

    def pause_after(life: float) -> float:
        watcher._plan_start(now - life)
        return max(0.0, round(watcher._next_start - now, 6))

    assert [pause_after(0.1) for _ in range(7)] == [0.0, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    now += 100
    assert [pause_after(life) for life in (50.0, 0.1, 0.1)] == [0.0, 0.0, 0.2]
