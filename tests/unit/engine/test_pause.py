"""Pause: a state of its own, which ends with unpause, a signal that ends the container, or its exit."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.engine.record import TABLE, Change, Status, next_status
from shared.protocol import (
    AwaitService,
    Conflict,
    ContainerConfig,
    CreateContainer,
    DockyardError,
    KillContainer,
    ListContainers,
    NotFound,
    PauseContainer,
    RemoveContainer,
    RestartContainer,
    RestartPolicy,
    StartContainer,
    StopContainer,
    SystemInfo,
    UnpauseContainer,
)
from tests.unit.engine.doing import actions, create, state_of, until


@pytest.fixture
def paused(stack: Any) -> str:
    """Return the id of a container ``web`` that is paused."""
    container = create(stack)
    stack.client.call(StartContainer(container="web"))
    stack.client.call(PauseContainer(container="web"))
    return container


def test_a_paused_container_is_shown_as_such(stack: Any, paused: str) -> None:
    state = state_of(stack, "web")
    assert (state.status, state.running, state.paused, state.pid) == ("paused", True, True, 4242)
    (shown,) = stack.client.call(ListContainers())
    assert (shown.state, shown.status.endswith(" (Paused)")) == ("paused", True)
    (found,) = stack.client.call(ListContainers(filters={"status": ["paused"]}))
    assert found.id == paused
    info = stack.client.call(SystemInfo())
    assert [info[f"Containers{kind}"] for kind in ("Running", "Paused", "Stopped")] == [0, 1, 0]
    stack.client.call(UnpauseContainer(container="web"))
    assert (state_of(stack, "web").status, state_of(stack, "web").paused) == ("running", False)
    assert actions(stack)[-2:] == ["pause", "unpause"]


def test_what_contradicts_the_state_is_a_conflict(stack: Any, paused: str) -> None:
    for job, text in (
        (PauseContainer(container="web"), f"Container {paused} is already paused"),
        (StartContainer(container="web"), "cannot start a paused container, try unpause instead"),
        (RemoveContainer(container="web"), 'cannot remove container "web": container is paused and must be unpaused'),
    ):
        with pytest.raises(Conflict, match=text):
            stack.client.call(job)
    stack.client.call(UnpauseContainer(container="web"))
    with pytest.raises(Conflict, match=f"Container {paused} is not paused"):
        stack.client.call(UnpauseContainer(container="web"))
    stack.client.call(StopContainer(container="web"))
    with pytest.raises(Conflict, match=f"container {paused} is not running"):
        stack.client.call(PauseContainer(container="web"))
    with pytest.raises(NotFound, match="No such container: nobody"):
        stack.client.call(PauseContainer(container="nobody"))


def test_a_container_that_waits_for_its_restart_is_not_paused(stack: Any) -> None:
    container = create(stack, restart_policy=RestartPolicy(name="always"))

    def fail(job: Any) -> None:
        raise DockyardError("no")

    stack.client.call(StartContainer(container="web"))
    stack.world.script["runtime_start"] = fail
    stack.world.exit(container, 1)
    until(stack, "web", "restarting")
    with pytest.raises(Conflict, match="is restarting, wait until the container is running"):
        stack.client.call(PauseContainer(container="web"))
    stack.client.call(StopContainer(container="web"))


@pytest.mark.parametrize(
    ("job", "code"), [(StopContainer(container="web"), 143), (KillContainer(container="web"), 137)]
)
def test_stop_and_kill_reach_what_is_paused(stack: Any, paused: str, job: Any, code: int) -> None:
    stack.client.call(job)
    until(stack, "web", "exited")
    assert state_of(stack, "web").exit_code == code
    assert "unpause" not in actions(stack)


def test_rm_force_and_restart_reach_what_is_paused(stack: Any, paused: str) -> None:
    stack.client.call(RestartContainer(container="web"))
    assert state_of(stack, "web").status == "running"
    stack.client.call(PauseContainer(container="web"))
    stack.client.call(RemoveContainer(container="web", force=True))
    assert not stack.client.call(ListContainers(all=True))


def test_only_its_own_stop_signal_lets_a_container_run_on(stack: Any) -> None:
    stack.client.call(CreateContainer(name="own", config=ContainerConfig(image="busybox", stop_signal="SIGTERM")))
    stack.client.call(StartContainer(container="own"))
    stack.client.call(PauseContainer(container="own"))
    stack.client.call(KillContainer(container="own", signal="USR1"))
    assert state_of(stack, "own").paused
    stack.client.call(KillContainer(container="own", signal="TERM"))
    until(stack, "own", "exited")


def test_an_exit_ends_a_pause(stack: Any, paused: str) -> None:
    stack.world.exit(paused, 3)
    assert (state_of(stack, "web").status, state_of(stack, "web").paused) == ("exited", False)


@pytest.mark.parametrize("frozen", [True, False])
def test_after_a_restart_the_freezer_says_what_is_paused(stack: Any, frozen: bool) -> None:
    """An engine may die between the freezing and its record, either way."""
    container = create(stack)
    stack.client.call(StartContainer(container="web"))
    if not frozen:
        stack.client.call(PauseContainer(container="web"))
    stack.stop_engine()
    stack.world.running[container] = msgspec.structs.replace(stack.world.running[container], paused=frozen)
    stack.start_engine()
    stack.client.call(AwaitService(service="engine"))
    assert state_of(stack, "web").paused is frozen
    assert actions(stack)[-1] == ("pause" if frozen else "unpause")


def test_the_table_lets_nothing_paused_start_again_or_be_removed() -> None:
    assert {change for status, change in TABLE if status is Status.PAUSED} == {Change.UNPAUSE, Change.EXIT}
    with pytest.raises(ValueError, match="paused cannot start"):
        next_status(Status.PAUSED, Change.START)
