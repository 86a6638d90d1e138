"""The gate that a stopping engine shuts: no new job passes, and what is under way is done to its end."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest

from shared.protocol import (
    AllocateInterface,
    Conflict,
    Header,
    Job,
    ListJobs,
    MountLayer,
    Ping,
    RuntimeStart,
    StartContainer,
    StopContainer,
    Unavailable,
    job_name,
    new_id,
)
from tests.unit.engine.conftest import ask
from tests.unit.engine.doing import actions, create, state_of
from tests.unit.engine.test_asked_again import Asking


def under_way(stack: Any, job: Job[Any], step: type[Job[Any]]) -> tuple[Asking, threading.Event]:
    """Have a job reach a step that waits for the event which is returned."""
    begun, go_on = threading.Event(), threading.Event()

    def work(inner: Any) -> str:
        begun.set()
        assert go_on.wait(10)
        return "/root"

    stack.world.script[job_name(step)] = work
    asking = Asking(stack, job)
    assert begun.wait(5)
    return asking, go_on


def begin_to_stop(stack: Any) -> threading.Thread:
    """Stop the engine in a thread; returns when the gate is shut."""
    stopping = threading.Thread(target=stack.stop_engine)
    stopping.start()
    for _ in range(500):
        if ask(stack, Header(id=new_id(), name=job_name(Ping())), Ping()).header.status:
            return stopping
    raise AssertionError("the gate is open")


@pytest.mark.parametrize("auto_remove", [False, True])
def test_a_start_that_is_under_way_is_done_to_its_end(stack: Any, auto_remove: bool) -> None:
    container = create(stack, auto_remove=auto_remove)
    starting, go_on = under_way(stack, StartContainer(container=container), MountLayer)
    stopping = begin_to_stop(stack)
    go_on.set()
    starting.answer()
    stopping.join(10)
    stack.start_engine()
    assert state_of(stack, container).running
    assert sum(isinstance(job, RuntimeStart) for job in stack.world.calls) == 1
    assert actions(stack)[-1] == "start"


def test_the_end_that_a_job_waits_for_passes_the_gate(stack: Any) -> None:
    container = create(stack)
    stack.client.call(StartContainer(container=container))
    killed = threading.Event()
    stack.world.script["runtime_kill"] = lambda job: killed.set()
    asking = Asking(stack, StopContainer(container=container, timeout=5))
    assert killed.wait(5)
    stopping = begin_to_stop(stack)
    stack.world.exit(container, 137)
    asking.answer()
    stopping.join(10)
    stack.start_engine()
    assert state_of(stack, container).exit_code == 137


def test_a_start_that_is_cut_off_leaves_no_complaint(stack: Any, caplog: pytest.LogCaptureFixture) -> None:
    container = create(stack)

    def fail(job: AllocateInterface) -> None:
        raise Conflict("the port is taken")

    stack.world.script["allocate_interface"] = fail
    starting, go_on = under_way(stack, StartContainer(container=container), MountLayer)
    stack.stop_engine()  # which gives it a second
    gc.collect()
    assert not [record.message for record in caplog.records if record.name == "asyncio"]
    go_on.set()
    stack.world.script.clear()
    stack.start_engine()
    starting.answer()


def test_only_what_is_part_of_a_job_under_way_passes_the_gate(stack: Any) -> None:
    container = create(stack)
    starting, go_on = under_way(stack, StartContainer(container=container), MountLayer)
    (under_it,) = [job.id for job in stack.client.call(ListJobs(running=True)) if job.name == "start"]
    stopping = begin_to_stop(stack)
    refused = ask(stack, Header(id=new_id(), name="ping"), Ping()).error()
    assert (type(refused), refused.message) == (Unavailable, "engine is shutdown")
    assert ask(stack, Header(id=new_id(), name="ping", parent=under_it), Ping()).header.status == 0
    go_on.set()
    starting.answer()
    stopping.join(10)
    stack.start_engine()
    stack.client.call(Ping())
