"""To cancel a job by its id, whoever called it (`Client.cancel`), and what `services` says of jobs under way."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shared.bus.client import Client
from shared.bus.context import Context, check_cancelled, current
from shared.bus.sockets import engine_endpoint
from shared.protocol import (
    Cancelled,
    ContainerConfig,
    CreateContainer,
    Header,
    ListJobs,
    ListServices,
    RuntimeStart,
    RuntimeStarted,
    StartContainer,
    Unavailable,
    WaitContainer,
    new_id,
)


@pytest.fixture
def other(stack: Any) -> Iterator[Client]:
    client = Client(engine_endpoint(stack.config.run), "other")
    stack.client.call(CreateContainer(name="web", config=ContainerConfig(image="busybox")))
    yield client
    client.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


def under_way(stack: Any, name: str) -> str:
    for _ in range(500):
        for job in stack.client.call(ListJobs(running=True)):
            if job.name == name:
                return str(job.id)
        threading.Event().wait(0.01)
    raise AssertionError(f"{name} is not under way")


def test_a_job_of_another_caller_is_cancelled(stack: Any, other: Client, pool: ThreadPoolExecutor) -> None:
    waiting = pool.submit(other.call, WaitContainer(container="web", condition="next-exit"), timeout=None)
    assert stack.client.cancel(under_way(stack, "wait"))
    with pytest.raises(Cancelled):
        waiting.result(5)


def test_a_job_that_is_cancelled_before_it_has_begun_ends(stack: Any, other: Client) -> None:
    """Its caller sends the cancellation right behind it: the engine reads both before it begins."""
    gone = threading.Event()
    gone.set()
    token = current.set(Context(Header(id=new_id()), lambda output: None, cancelled=gone))
    try:
        for _ in range(20):
            with pytest.raises(Cancelled):
                other.call(WaitContainer(container="web", condition="next-exit"), timeout=None)
    finally:
        current.reset(token)
    for _ in range(500):
        left = [job for job in stack.client.call(ListJobs(running=True)) if job.name == "wait"]
        if not left:
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"still under way: {left}")


def test_a_job_that_is_not_there_has_ended(stack: Any) -> None:
    assert stack.client.cancel("0" * 32)


def test_an_engine_that_is_away_is_told(tmp_path: Path) -> None:
    client = Client(engine_endpoint(tmp_path), "test")
    with pytest.raises(Unavailable):
        client.cancel("0" * 32, timeout=0.05)
    client.close()


def test_services_say_how_many_jobs_they_are_busy_with(stack: Any, other: Client, pool: ThreadPoolExecutor) -> None:
    go_on = threading.Event()

    def slow(job: RuntimeStart) -> RuntimeStarted:
        go_on.wait(5)
        check_cancelled()
        return RuntimeStarted(pid=4242, monitor_pid=4241)

    stack.world.script["runtime_start"] = slow
    starting = pool.submit(other.call, StartContainer(container="web"))
    under_way(stack, "runtime_start")
    busy = {service.service: service.jobs for service in stack.client.call(ListServices())}
    go_on.set()
    starting.result(5)
    assert (busy["execdriver"], busy["engine"], busy["netdriver"]) == (1, 1, 0)
