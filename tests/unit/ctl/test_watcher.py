"""BoundedWatcher: counts those that end, whenever circus notices."""

from __future__ import annotations

import asyncio
import os

import pytest
from circus.process import Process

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
