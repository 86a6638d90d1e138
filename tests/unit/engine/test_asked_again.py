"""What the caller of a job sees whose engine dies between the work and the answer: nothing, and it is done once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from shared.protocol import (
    ContainerConfig,
    CreateContainer,
    DockyardError,
    Header,
    InspectContainer,
    Job,
    Kind,
    ListContainers,
    NotFound,
    Ping,
    RemoveContainer,
    RenameContainer,
    RestartContainer,
    Running,
    RuntimeStart,
    RuntimeStarted,
    StartContainer,
    StopContainer,
    Unavailable,
    WaitContainer,
    decode_body,
    job_name,
    new_id,
)
from tests.unit.engine.conftest import ask
from tests.unit.engine.doing import actions, create, state_of


def starts(stack: Any) -> int:
    return sum(isinstance(job, RuntimeStart) for job in stack.world.calls)


class Asking:
    """A caller in a thread of its own."""

    def __init__(self, stack: Any, job: Job[Any]) -> None:
        self.outcome: Any = None
        self._thread = threading.Thread(target=self._ask, args=(stack, job))
        self._thread.start()

    def _ask(self, stack: Any, job: Job[Any]) -> None:
        try:
            self.outcome = stack.client.call(job)
        except Exception as error:
            self.outcome = error

    def answer(self) -> Any:
        self._thread.join(15)
        assert not self._thread.is_alive()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def interrupt(stack: Any, job: Job[Any], step: str, done: Callable[[Any], Any], on_boot: Callable[[], None]) -> Any:
    """Have the engine die when a driver has done ``step`` and before it can say so; returns the caller's answer."""
    begun, go_on = threading.Event(), threading.Event()

    def work(inner: Any) -> Any:
        result = done(inner)
        begun.set()
        assert go_on.wait(10)
        return result

    stack.world.script[step] = work
    asking = Asking(stack, job)
    assert begun.wait(5)
    stack.stop_engine()
    go_on.set()
    del stack.world.script[step]
    on_boot()
    stack.start_engine()
    return asking.answer()


def interrupt_start(
    stack: Any, container: str, on_boot: Callable[[], None] = lambda: None, job: Job[Any] | None = None
) -> None:
    def run(start: RuntimeStart) -> RuntimeStarted:
        stack.world.running[container] = Running(container=container, generation=start.generation, pid=7, monitor_pid=6)
        return RuntimeStarted(pid=7, monitor_pid=6)

    interrupt(stack, job or StartContainer(container=container), "runtime_start", run, on_boot)


def test_a_start(stack: Any) -> None:
    container = create(stack)
    interrupt_start(stack, container)
    shown = state_of(stack, container)
    assert (shown.running, shown.pid, starts(stack)) == (True, 7, 1)
    networks = stack.client.call(InspectContainer(container=container)).network_settings.networks
    assert networks["bridge"].ip_address == "192.0.2.2"
    assert actions(stack).count("start") == 1


@pytest.mark.parametrize("auto_remove", [False, True])
def test_a_start_whose_process_has_ended_meanwhile(stack: Any, auto_remove: bool) -> None:
    container = create(stack, auto_remove=auto_remove)

    def end() -> None:
        stack.world.running[container] = Running(
            container=container, generation=1, pid=0, monitor_pid=0, exit_code=3, exited_at=1e9
        )

    interrupt_start(stack, container, end)
    assert stack.client.call(WaitContainer(container=container, generation=1)).status_code == 3
    assert starts(stack) == 1
    assert [action for action in actions(stack) if action in ("start", "die")] == ["start", "die"]


def test_a_start_that_came_to_nothing_is_made_again(stack: Any) -> None:
    container = create(stack)
    interrupt_start(stack, container, stack.world.running.clear)
    assert state_of(stack, container).running
    assert starts(stack) == 2


@pytest.mark.parametrize("answered", [True, False])
def test_a_start_that_failed_for_the_want_of_a_driver_is_not_taken_for_one_that_ran(stack: Any, answered: bool) -> None:
    container = create(stack, auto_remove=True)

    def fail(job: RuntimeStart) -> None:
        raise Unavailable("execdriver died")

    stack.world.script["runtime_start"] = fail
    header = Header(id=new_id(), name="start")
    first = ask(stack, header, StartContainer(container=container))
    assert (type(first.error()), first.error().message) == (DockyardError, "execdriver died")
    if not answered:
        stack.restart_engine()
    again = ask(stack, msgspec.structs.replace(header, again=True), StartContainer(container=container))
    assert isinstance(again.error(), NotFound)


def test_a_restart_does_not_stop_what_it_has_started(stack: Any) -> None:
    container = create(stack)
    interrupt_start(stack, container, job=RestartContainer(container=container))
    assert (state_of(stack, container).pid, starts(stack)) == (7, 1)
    assert "kill" not in actions(stack)


def test_a_create_makes_one_container(stack: Any) -> None:
    header = Header(id=new_id(), name="create")
    job = CreateContainer(name="once", config=ContainerConfig(image="busybox"))
    first = ask(stack, header, job)
    stack.restart_engine()
    again = ask(stack, msgspec.structs.replace(header, again=True), job)
    assert first == again
    assert [c.names for c in stack.client.call(ListContainers(all=True))] == [["/once"]]


@pytest.mark.parametrize(
    "job",
    [
        StopContainer(container="web"),
        RemoveContainer(container="web", force=True),
        RenameContainer(container="web", name="other"),
    ],
    ids=job_name,
)
def test_what_is_done_already_counts_as_done(stack: Any, job: Job[Any]) -> None:
    create(stack)
    stack.client.call(StartContainer(container="web"))
    header = Header(id=new_id(), name=job_name(job))
    assert ask(stack, header, job).header.status == 0
    stack.restart_engine()
    if isinstance(job, RenameContainer):
        job = RenameContainer(container="other", name="other")
    assert ask(stack, msgspec.structs.replace(header, again=True), job).header.status == 0
    assert ask(stack, Header(id=new_id(), name=job_name(job)), job).header.status == 1  # not asked before


def test_a_job_under_way_is_joined_and_an_end_is_told_again(stack: Any) -> None:
    create(stack)
    stack.client.call(StartContainer(container="web"))
    job = WaitContainer(container="web")
    header = Header(id=new_id(), name="wait")
    ask(stack, header, job, until=Kind.STATUS)  # and the connection breaks
    joined = Asking(stack, Ping())
    joined.answer()
    threading.Timer(0.2, stack.world.exit, (stack.client.call(InspectContainer(container="web")).id, 3)).start()
    again = msgspec.structs.replace(header, again=True)
    for _ in range(2):
        assert decode_body(ask(stack, again, job).body, dict)["StatusCode"] == 3


def test_a_removal_of_what_never_was_is_an_error_even_if_asked_again(stack: Any) -> None:
    header = Header(id=new_id(), name="rm", again=True)
    frame = ask(stack, header, RemoveContainer(container="nobody"))
    assert isinstance(frame.error(), NotFound)
