"""Health in the engine: what a check may be, when events come, and what is on record."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.engine.health import merge_healthcheck
from shared.protocol import (
    ContainerConfig,
    ContainerHealth,
    CreateContainer,
    Health,
    HealthConfig,
    HealthProbe,
    HealthReport,
    HealthResult,
    InspectContainer,
    InvalidArgument,
    ListContainers,
    ReadEvents,
    StartContainer,
    health_command,
)
from tests.unit.engine.conftest import Stack

RESULT = HealthResult(start="2026-01-01T00:00:00Z", end="2026-01-01T00:00:01Z", exit_code=0, output="")


def run(stack: Stack) -> str:
    config = ContainerConfig(image="busybox", healthcheck=HealthConfig(test=["CMD", "true"]))
    made = stack.client.call(CreateContainer(name="web", config=config))
    stack.client.call(StartContainer(container="web"))
    return made.id


def tell(stack: Stack, container: str, status: str, generation: int = 1) -> None:
    report = HealthReport(container=container, generation=generation, health=Health(status=status, log=[RESULT]))
    stack.client.call(ContainerHealth(reports=[report]))


def execs(stack: Stack) -> list[tuple[str, str, str | None]]:
    told = [(event.action, event.actor.attributes) for event in stack.client.call(ReadEvents())]
    return [(action, named["execID"], named.get("exitCode")) for action, named in told if action.startswith("exec_")]


def test_probes_are_execs_to_who_reads_events(stack: Stack) -> None:
    container, one, two = run(stack), "1" * 64, "2" * 64
    probes = [HealthProbe(exec=one), HealthProbe(exec=one, exit_code=0), HealthProbe(exec=two)]
    for generation in (1, 2):  # the second is of another start
        report = HealthReport(container=container, generation=generation, health=Health(), probes=probes)
        stack.client.call(ContainerHealth(reports=[report]))
    created, started = "exec_create: true", "exec_start: true"
    expected = [(created, one, None), (started, one, None), ("exec_die", one, "0"), (created, two, None)]
    assert execs(stack) == [*expected, (started, two, None)]


def shown(stack: Stack) -> Any:
    return stack.client.call(InspectContainer(container="web")).state.health


def test_only_changes_are_events(stack: Stack) -> None:
    container = run(stack)
    assert (shown(stack).status, shown(stack).log) == ("starting", [])
    tell(stack, container, "healthy", generation=7)  # of another start
    for status in ("starting", "healthy", "healthy", "unhealthy"):
        tell(stack, container, status)
    tell(stack, "nobody", "healthy")
    actions = [event.action for event in stack.client.call(ReadEvents()) if event.action.startswith("health")]
    assert actions == ["health_status: healthy", "health_status: unhealthy"]
    (listed,) = stack.client.call(ListContainers(filters={"health": ["unhealthy"]}))
    assert listed.status.endswith("(unhealthy)")
    with pytest.raises(InvalidArgument):
        stack.client.call(ListContainers(filters={"health": ["well"]}))


def test_health_outlives_the_engine_and_what_it_missed_is_caught_up(stack: Stack) -> None:
    container = run(stack)
    tell(stack, container, "unhealthy")
    stack.stop_engine()
    stack.world.running[container] = msgspec.structs.replace(
        stack.world.running[container], health=Health(status="healthy", log=[RESULT])
    )
    stack.start_engine()
    assert shown(stack).status in ("unhealthy", "healthy")
    stack.client.call(
        StartContainer(container=stack.client.call(CreateContainer(config=ContainerConfig(image="busybox"))).id)
    )
    assert (shown(stack).status, shown(stack).log) == ("healthy", [RESULT])


def test_a_container_that_has_ended_is_unhealthy_and_starts_anew(stack: Stack) -> None:
    container = run(stack)
    tell(stack, container, "healthy")
    stack.world.exit(container, 0)
    assert shown(stack).status == "unhealthy"
    stack.client.call(StartContainer(container="web"))
    assert (shown(stack).status, shown(stack).log) == ("starting", [])


def test_without_a_check_there_is_none(stack: Stack) -> None:
    stack.client.call(CreateContainer(name="web", config=ContainerConfig(image="busybox")))
    stack.client.call(StartContainer(container="web"))
    state = stack.client.call(InspectContainer(container="web")).state
    assert state.health is msgspec.UNSET
    assert "Health" not in msgspec.to_builtins(state)


@pytest.mark.parametrize(
    ("config", "command"),
    [
        (None, []),
        (HealthConfig(test=["NONE"]), []),
        (HealthConfig(test=["CMD", "a", "b"]), ["a", "b"]),
        (HealthConfig(test=["CMD-SHELL", "a b"]), ["/bin/sh", "-c", "a b"]),
        (HealthConfig(test=["WHAT", "a"]), []),
    ],
)
def test_commands(config: HealthConfig | None, command: list[str]) -> None:
    assert health_command(ContainerConfig(healthcheck=config)) == command


def test_the_shell_is_the_images() -> None:
    config = ContainerConfig(shell=["/bin/bash", "-c"], healthcheck=HealthConfig(test=["CMD-SHELL", "x"]))
    assert health_command(config) == ["/bin/bash", "-c", "x"]


def test_a_request_inherits_from_the_image() -> None:
    image = HealthConfig(test=["CMD", "a"], interval=5_000_000, retries=4)
    assert merge_healthcheck(None, image) == image
    assert merge_healthcheck(HealthConfig(interval=7_000_000), image) == HealthConfig(
        test=["CMD", "a"], interval=7_000_000, retries=4
    )
    for wrong in (HealthConfig(interval=1), HealthConfig(start_period=1), HealthConfig(retries=-1)):
        with pytest.raises(InvalidArgument):
            merge_healthcheck(wrong, None)
