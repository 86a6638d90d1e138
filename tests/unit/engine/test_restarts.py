"""Restart policies: a container that will run again is `restarting` from its exit on, and counts as one that runs."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from services.engine.lifecycle import stop
from shared.protocol import (
    Conflict,
    DockyardError,
    InspectContainer,
    KillContainer,
    NotFound,
    NotModified,
    RemoveContainer,
    RestartContainer,
    RestartPolicy,
    Running,
    RuntimeStart,
    RuntimeStarted,
    StartContainer,
    StopContainer,
    UnmountLayer,
    WaitContainer,
)
from tests.unit.engine.doing import actions, create, state_of, until

ALWAYS = RestartPolicy(name="always")


def waits(stack: Any, policy: RestartPolicy = ALWAYS) -> str:
    """Make a container that has exited and waits for its restart."""
    container = create(stack, restart_policy=policy)
    stack.client.call(StartContainer(container=container))
    tries: list[RuntimeStart] = []

    def fail(job: RuntimeStart) -> None:
        tries.append(job)
        raise DockyardError("not now")

    stack.world.script["runtime_start"] = fail
    stack.world.exit(container, 1)
    while len(tries) < 3:  # each makes the next come later
        threading.Event().wait(0.01)
    until(stack, container, "restarting")
    return container


def test_who_waited_for_the_exit_finds_it_restarting(stack: Any) -> None:
    container = create(stack, restart_policy=ALWAYS)
    stack.client.call(StartContainer(container=container))
    waits, holding, seen = threading.Event(), threading.Event(), []

    def hold(job: UnmountLayer) -> None:
        holding.wait(5)

    stack.world.script["layer_unmount"] = hold

    def wait() -> None:
        stack.client.call(WaitContainer(container=container), on_status=lambda output: waits.set())
        seen.append(state_of(stack, container).status)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert waits.wait(5)
    stack.world.exit(container, 1)
    waiting.join(5)
    holding.set()
    assert seen == ["restarting"]


def test_one_that_fails_to_restart_goes_on_restarting_while_it_gives_back_what_it_had(stack: Any) -> None:
    seen: list[str] = []

    def note(job: UnmountLayer) -> None:
        seen.append(state_of(stack, job.container).status)

    stack.world.script["layer_unmount"] = note
    waits(stack)
    assert len(seen) >= 2
    assert set(seen) == {"restarting"}


def test_it_is_not_removed_unless_forced(stack: Any) -> None:
    container = waits(stack)
    with pytest.raises(Conflict, match="container is restarting: stop the container before removing or force remove"):
        stack.client.call(RemoveContainer(container=container))
    stack.client.call(RemoveContainer(container=container, force=True))
    with pytest.raises(NotFound):
        stack.client.call(InspectContainer(container=container))


@pytest.mark.parametrize("end", [StopContainer, KillContainer])
def test_a_stop_and_a_kill_give_it_up(stack: Any, end: Any) -> None:
    container = waits(stack)
    stack.client.call(end(container=container))
    assert state_of(stack, container).status == "exited"
    del stack.world.script["runtime_start"]
    threading.Event().wait(1.2)  # longer than the delay
    assert state_of(stack, container).status == "exited"


def test_a_stop_does_not_come_between_a_restart_and_its_start(stack: Any) -> None:
    container = create(stack, restart_policy=ALWAYS)
    stack.client.call(StartContainer(container=container))
    begun, go_on = threading.Event(), threading.Event()

    def slow_start(job: RuntimeStart) -> Any:
        del stack.world.script["runtime_start"]
        begun.set()
        go_on.wait(5)
        stack.world.running[container] = Running(
            container=container, generation=job.generation, pid=4242, monitor_pid=4241
        )
        return RuntimeStarted(pid=4242, monitor_pid=4241)

    stack.world.script["runtime_start"] = slow_start
    stack.world.exit(container, 1)
    assert begun.wait(5)
    stopping = threading.Thread(target=lambda: stack.client.call(StopContainer(container=container)))
    stopping.start()
    threading.Event().wait(0.1)
    go_on.set()
    stopping.join(10)
    until(stack, container, "exited")
    for _ in range(500):
        if not stack.world.running:  # it is deleted after its end is on record
            break
        threading.Event().wait(0.01)
    assert not stack.world.running
    assert state_of(stack, container).status == "exited"


@pytest.mark.parametrize("policy", [ALWAYS, RestartPolicy(name="on-failure")])
def test_an_engine_that_comes_back_goes_on_with_it(stack: Any, policy: RestartPolicy) -> None:
    """It was decided at the exit: that the engine was away meanwhile changes nothing."""
    container = waits(stack, policy)
    stack.stop_engine()
    del stack.world.script["runtime_start"]
    stack.start_engine()
    until(stack, container, "running")


def test_a_restart_of_what_another_has_started_meanwhile_is_done(stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at a time: one finds it stopped, and running once it would start it. As with Docker that is no 304."""
    create(stack)

    async def started_meanwhile(*_: Any) -> None:
        raise NotModified("Container is already running")

    monkeypatch.setattr(stop, "start", started_meanwhile)
    stack.client.call(RestartContainer(container="web"))
    assert actions(stack)[-1] == "restart"


def test_what_removes_itself_stays_when_it_is_restarted(stack: Any) -> None:
    """`docker restart` of a `docker run --rm`: it goes with its own next end (moby's HasBeenManuallyRestarted)."""
    container = create(stack, auto_remove=True)
    stack.client.call(StartContainer(container="web"))
    for _ in range(2):
        stack.client.call(RestartContainer(container="web"))
        assert state_of(stack, container).running
    stack.client.call(StopContainer(container="web"))
    until_gone(stack, container)


def test_what_removes_itself_goes_where_its_restart_fails(stack: Any) -> None:
    container = create(stack, auto_remove=True)
    stack.client.call(StartContainer(container="web"))

    def fail(job: RuntimeStart) -> None:
        raise DockyardError("not now")

    stack.world.script["runtime_start"] = fail
    with pytest.raises(DockyardError, match=r"^Cannot restart container web: not now$"):
        stack.client.call(RestartContainer(container="web"))
    until_gone(stack, container)


def until_gone(stack: Any, container: str) -> None:
    for _ in range(500):
        try:
            state_of(stack, container)
        except NotFound:
            return
        threading.Event().wait(0.01)
    raise AssertionError("it is still there")


def test_what_runs_again_tells_when_it_ended_before(stack: Any) -> None:
    """As with Docker: State.FinishedAt is of the last end, also while it runs."""
    container = create(stack)
    stack.client.call(StartContainer(container="web"))
    assert state_of(stack, container).finished_at == "0001-01-01T00:00:00Z"
    stack.client.call(StopContainer(container="web"))
    ended = state_of(stack, container).finished_at
    stack.client.call(StartContainer(container="web"))
    state = state_of(stack, container)
    assert (state.running, state.exit_code, state.finished_at) == (True, 0, ended)
