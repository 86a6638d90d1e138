"""top and stats: what the engine adds to what the execdriver says."""

from __future__ import annotations

from typing import Any

import pytest

from shared.protocol import (
    Conflict,
    ContainerStats,
    ListJobs,
    NotFound,
    PauseContainer,
    RuntimeStats,
    RuntimeTop,
    SampleContainer,
    StartContainer,
    StopContainer,
    TopContainer,
)
from tests.unit.engine.doing import actions, create


def gone(job: Any) -> None:
    raise NotFound("No such container")


def test_top_is_of_what_runs_or_is_paused(stack: Any) -> None:
    container = create(stack)
    with pytest.raises(Conflict, match=f"container {container} is not running"):
        stack.client.call(TopContainer(container="web"))
    stack.client.call(StartContainer(container="web"))
    assert stack.client.call(TopContainer(container="web", ps_args="aux")).processes == [["4242"]]
    assert [job.ps_args for job in stack.world.calls if isinstance(job, RuntimeTop)] == ["aux"]
    assert actions(stack)[-1] == "top"
    stack.client.call(PauseContainer(container="web"))
    assert stack.client.call(TopContainer(container="web")).titles == ["PID"]
    stack.world.script["runtime_top"] = gone
    with pytest.raises(Conflict, match="is not running"):
        stack.client.call(TopContainer(container="web"))


def test_a_sample_has_the_containers_name_and_zeros_if_it_does_not_run(stack: Any) -> None:
    container = create(stack)
    zero = stack.client.call(SampleContainer(container="web"))
    assert zero == ContainerStats(id=container, name="/web")
    stack.client.call(StartContainer(container="web"))
    sample = stack.client.call(SampleContainer(container=container[:6]))
    assert (sample.id, sample.name, sample.read[:4]) == (container, "/web", "2026")
    stack.world.script["runtime_stats"] = gone
    assert stack.client.call(SampleContainer(container="web")) == zero
    stack.client.call(StopContainer(container="web"))
    assert stack.client.call(SampleContainer(container="web")) == zero
    with pytest.raises(NotFound, match="No such container: nobody"):
        stack.client.call(SampleContainer(container="nobody"))


@pytest.mark.parametrize(("mode", "counted"), [("bridge", True), ("none", False), ("host", False)])
def test_who_has_no_network_of_its_own_has_no_counters(stack: Any, mode: str, counted: bool) -> None:
    create(stack, network_mode=mode)
    stack.client.call(StartContainer(container="web"))
    stack.client.call(SampleContainer(container="web"))
    assert [job.networks for job in stack.world.calls if isinstance(job, RuntimeStats)] == [counted]


def test_samples_do_not_fill_the_journal(stack: Any) -> None:
    create(stack)
    stack.client.call(StartContainer(container="web"))
    stack.client.call(SampleContainer(container="web"))
    assert not {"container_stats", "runtime_stats"} & {job.name for job in stack.client.call(ListJobs(limit=100))}
