"""Update: what is given is laid over what there is, checked together, and in force at once if the container runs."""

from __future__ import annotations

from typing import Any

import pytest

from shared.protocol import (
    Conflict,
    DockyardError,
    HostConfig,
    InspectContainer,
    InvalidArgument,
    NotFound,
    NotImplementedByUs,
    PauseContainer,
    RestartPolicy,
    RuntimeUpdate,
    StartContainer,
    Ulimit,
    UpdateContainer,
)
from tests.unit.engine.doing import actions, create, state_of, until

MB = 1 << 20


def update(stack: Any, policy: RestartPolicy | None = None, **host: Any) -> list[str]:
    job = UpdateContainer(container="web", host_config=HostConfig(**host), restart_policy=policy)
    warnings: list[str] = stack.client.call(job).warnings
    return warnings


def shown(stack: Any) -> HostConfig:
    host_config: HostConfig = stack.client.call(InspectContainer(container="web")).host_config
    return host_config


def sent(stack: Any) -> list[HostConfig]:
    return [job.host_config for job in stack.world.calls if isinstance(job, RuntimeUpdate)]


def test_a_container_that_does_not_run_has_it_at_its_next_start(stack: Any) -> None:
    create(stack, memory=50 * MB)
    assert not update(stack, cpu_shares=512)
    assert not sent(stack)
    found = shown(stack)
    assert (found.memory, found.memory_swap, found.cpu_shares) == (50 * MB, 100 * MB, 512)
    assert actions(stack)[-1] == "update"


@pytest.mark.parametrize("paused", [False, True])
def test_a_container_that_runs_gets_all_of_its_limits_anew(stack: Any, paused: bool) -> None:
    create(stack, memory=50 * MB, pids_limit=9)
    stack.client.call(StartContainer(container="web"))
    if paused:
        stack.client.call(PauseContainer(container="web"))
    update(stack, memory=60 * MB)
    (limits,) = sent(stack)
    assert (limits.memory, limits.memory_swap, limits.pids_limit) == (60 * MB, 100 * MB, 9)


def test_what_the_kernel_refuses_is_not_recorded(stack: Any) -> None:
    container = create(stack, cpu_shares=100)
    stack.client.call(StartContainer(container="web"))

    def refuse(job: RuntimeUpdate) -> None:
        raise DockyardError("cannot set cpu.shares")

    stack.world.script["runtime_update"] = refuse
    with pytest.raises(DockyardError, match=f"Cannot update container {container}: cannot set cpu.shares"):
        update(stack, cpu_shares=200)
    assert shown(stack).cpu_shares == 100
    assert "update" not in actions(stack)


def test_a_process_that_has_just_ended_is_no_failure(stack: Any) -> None:
    create(stack)
    stack.client.call(StartContainer(container="web"))

    def gone(job: RuntimeUpdate) -> None:
        raise NotFound("No such container")

    stack.world.script["runtime_update"] = gone
    update(stack, cpu_shares=200)
    assert shown(stack).cpu_shares == 200


@pytest.mark.parametrize(
    ("has", "gets", "text"),
    [
        ({"cpu_period": 5000}, {"nano_cpus": 10**9}, "Nano CPUs cannot be updated as CPU Period has already been set"),
        ({"cpu_quota": 5000}, {"nano_cpus": 10**9}, "Nano CPUs cannot be updated as CPU Quota has already been set"),
        ({"nano_cpus": 10**9}, {"cpu_period": 5000}, "CPU Period cannot be updated as NanoCPUs has already been set"),
        ({"nano_cpus": 10**9}, {"cpu_quota": 5000}, "CPU Quota cannot be updated as NanoCPUs has already been set"),
        ({"memory": 10 * MB}, {"memory": 30 * MB}, "Memory limit should be smaller than already set memoryswap limit"),
        ({}, {"memory_swap": 30 * MB}, "You should always set the Memory limit"),
        ({"memory": 20 * MB}, {"memory_swap": 10 * MB}, "Minimum memoryswap limit should be larger"),
    ],
)
def test_what_does_not_go_with_what_there_is_is_a_conflict(
    stack: Any, has: dict[str, Any], gets: dict[str, Any], text: str
) -> None:
    container = create(stack, **has)
    with pytest.raises(Conflict, match=f"Cannot update container {container}: .*{text}"):
        update(stack, **gets)


def test_what_makes_no_sense_or_cannot_change_is_refused(stack: Any) -> None:
    create(stack)
    with pytest.raises(InvalidArgument, match="Minimum memory limit allowed is 6MB"):
        update(stack, memory=1)
    with pytest.raises(InvalidArgument, match="Ulimits cannot be updated"):
        update(stack, ulimits=[Ulimit(name="core")])
    with pytest.raises(InvalidArgument, match="Range of blkio weight"):
        update(stack, blkio_weight=5)
    with pytest.raises(InvalidArgument, match="invalid restart policy 'now'"):
        update(stack, RestartPolicy(name="now"))


def test_limits_are_lifted(stack: Any) -> None:
    create(stack, pids_limit=5, cpu_quota=5000, memory=10 * MB)
    update(stack, pids_limit=-1, cpu_quota=-1, memory_swap=-1)
    assert (shown(stack).pids_limit, shown(stack).cpu_quota, shown(stack).memory_swap) == (0, -1, -1)


def test_swap_follows_the_first_memory_limit(stack: Any) -> None:
    create(stack)
    update(stack, memory=10 * MB)
    assert shown(stack).memory_swap == 20 * MB


def test_the_restart_policy_changes_alone_and_acts(stack: Any) -> None:
    container = create(stack, memory=10 * MB)
    stack.client.call(StartContainer(container="web"))
    update(stack, RestartPolicy(name="always"))
    assert (shown(stack).restart_policy.name, shown(stack).memory) == ("always", 10 * MB)
    stack.world.exit(container, 1)
    until(stack, "web", "running")
    update(stack, RestartPolicy(name="no"))
    stack.world.exit(container, 1)
    assert state_of(stack, "web").status == "exited"


def test_auto_remove_and_a_policy_exclude_each_other(stack: Any) -> None:
    create(stack, auto_remove=True)
    with pytest.raises(Conflict, match="AutoRemove is enabled for the container"):
        update(stack, RestartPolicy(name="always"))
    update(stack, RestartPolicy(name="no"))


def test_create_refuses_what_is_not_implemented(stack: Any) -> None:
    with pytest.raises(NotImplementedByUs, match="StorageOpt is not implemented"):
        create(stack, storage_opt={"size": "1G"})
