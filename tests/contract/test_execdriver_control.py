"""What the execdriver promises about a container that runs: pause."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from shared.protocol import (
    MountPoint,
    NotFound,
    RuntimeDelete,
    RuntimeKill,
    RuntimeList,
    RuntimePause,
    RuntimeStart,
    RuntimeUnpause,
)
from tests.contract.test_execdriver import Bench, bench, shared_rootfs, until

__all__ = ["bench", "shared_rootfs"]

pytestmark = pytest.mark.root


def counter(bench: Bench) -> tuple[RuntimeStart, Path]:
    """Start a container that makes a file longer and longer; returns the file too."""
    shared = bench.config.run / "shared"
    shared.mkdir()
    mounts = [MountPoint(type="bind", source=str(shared), destination="/tmp")]
    job = bench.job("sh", "-c", "while :; do echo x >> /tmp/count; usleep 1000; done", mounts=mounts)
    bench.do(job)
    until((shared / "count").exists)
    return job, shared / "count"


def paused(bench: Bench) -> list[bool]:
    return [entry.paused for entry in bench.do(RuntimeList())]


def test_a_paused_container_stands_still_until_it_is_unpaused(bench: Bench) -> None:
    job, count = counter(bench)
    for _ in range(2):  # idempotent
        bench.do(RuntimePause(container=job.container))
    assert paused(bench) == [True]
    size = count.stat().st_size
    threading.Event().wait(0.05)
    assert count.stat().st_size == size
    for _ in range(2):
        bench.do(RuntimeUnpause(container=job.container))
    assert paused(bench) == [False]
    until(lambda: count.stat().st_size > size)


def test_a_pause_outlives_the_driver(bench: Bench) -> None:
    job, _ = counter(bench)
    bench.do(RuntimePause(container=job.container))
    bench.driver = bench.new_driver()
    assert paused(bench) == [True]
    bench.do(RuntimeUnpause(container=job.container))
    assert paused(bench) == [False]


def test_a_signal_waits_for_the_thaw(bench: Bench) -> None:
    job, _ = counter(bench)
    bench.do(RuntimePause(container=job.container))
    bench.do(RuntimeKill(container=job.container, signal=signal.SIGKILL))
    bench.do(RuntimeUnpause(container=job.container))
    assert bench.exit_of(job.container).exit_code == 137
    assert paused(bench) == [False]


def test_a_paused_container_can_be_deleted(bench: Bench) -> None:
    job, _ = counter(bench)
    bench.do(RuntimePause(container=job.container))
    bench.do(RuntimeDelete(container=job.container))
    assert not bench.do(RuntimeList())


@pytest.mark.parametrize("kind", [RuntimePause, RuntimeUnpause])
def test_what_does_not_run_is_not_found(bench: Bench, kind: Any) -> None:
    job = bench.job("true")
    bench.do(job)
    bench.exit_of(job.container)
    for container in (job.container, "0" * 64):
        with pytest.raises(NotFound):
            bench.do(kind(container=container))
