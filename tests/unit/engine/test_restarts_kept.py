"""Restart policies and automatic removal, over engines that die between an exit and what follows from it."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

import pytest

from services.engine.stackid import StackId
from shared.protocol import (
    AllocateInterface,
    AwaitService,
    Bridge,
    ContainerExited,
    DockyardError,
    InitNetworkDriver,
    InspectContainer,
    KillContainer,
    ListContainers,
    NotFound,
    RestartPolicy,
    RuntimeStart,
    StartContainer,
    StopContainer,
    Unavailable,
)
from tests.unit.engine.doing import create, state_of, until

ON_FAILURE = RestartPolicy(name="on-failure", maximum_retry_count=2)
ALWAYS = RestartPolicy(name="always")


def shown(stack: Any, ref: str) -> Any:
    return stack.client.call(InspectContainer(container=ref))


def restart_engine(stack: Any) -> None:
    stack.restart_engine()
    stack.client.call(AwaitService(service="engine"))


def wait(condition: Any, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def end_while_away(stack: Any, container: str, code: int) -> None:
    """The container ends while no engine is there; the next one finds it in the runtime's list."""
    entry = stack.world.running[container]
    stack.stop_engine()
    stack.world.running[container] = type(entry)(
        container=container, generation=entry.generation, pid=0, monitor_pid=0, exit_code=code, exited_at=time.time()
    )
    stack.start_engine()
    stack.client.call(AwaitService(service="engine"))


@pytest.mark.parametrize("policy", [ALWAYS, ON_FAILURE, RestartPolicy(name="unless-stopped")], ids=lambda p: p.name)
def test_an_exit_while_no_engine_was_there_is_followed_by_a_restart(stack: Any, policy: RestartPolicy) -> None:
    container = create(stack, restart_policy=policy)
    stack.client.call(StartContainer(container=container))
    end_while_away(stack, container, 4)
    until(stack, container, "running")
    assert shown(stack, container).restart_count == 1


def test_an_engine_that_dies_while_a_restart_is_awaited_does_not_lose_it_nor_its_count(stack: Any) -> None:
    container = create(stack, restart_policy=ON_FAILURE)
    stack.client.call(StartContainer(container=container))
    for count in (1, 2):
        stack.world.exit(container, 4)
        until(stack, container, "restarting")
        restart_engine(stack)
        until(stack, container, "running")
        assert shown(stack, container).restart_count == count
    stack.world.exit(container, 4)
    until(stack, container, "exited")
    restart_engine(stack)
    assert state_of(stack, container).status == "exited"
    assert shown(stack, container).restart_count == 2


def test_the_delay_before_a_restart_is_kept_over_an_engine(stack: Any) -> None:
    """Each delay is twice the one before; a new engine waits what is left of it and begins with no shorter one."""
    container = create(stack, restart_policy=ALWAYS)
    stack.client.call(StartContainer(container=container))
    for _ in range(4):  # 0.1, 0.2, 0.4, 0.8 s
        until(stack, container, "running")
        began = time.time()
        stack.world.client.call(exited_now(stack, container))
        until(stack, container, "restarting")
    restart_engine(stack)
    until(stack, container, "running")
    assert time.time() - began > 0.75


def exited_now(stack: Any, container: str) -> Any:
    generation = stack.world.running[container].generation
    return ContainerExited(container=container, generation=generation, exit_code=1, exited_at=time.time())


def test_a_restart_during_which_the_engine_dies_counts_once(stack: Any) -> None:
    container = create(stack, restart_policy=RestartPolicy(name="on-failure", maximum_retry_count=1))
    stack.client.call(StartContainer(container=container))
    begun, go_on = threading.Event(), threading.Event()

    def hang(job: RuntimeStart) -> Any:
        begun.set()
        go_on.wait(5)
        raise Unavailable("it died")

    stack.world.script["runtime_start"] = hang
    stack.world.exit(container, 3)
    assert begun.wait(5)
    stack.stop_engine()
    stack.world.script.clear()
    stack.world.running.clear()
    go_on.set()
    stack.start_engine()
    until(stack, container, "running")
    assert shown(stack, container).restart_count == 1


def test_a_restart_that_no_driver_could_make_does_not_count(stack: Any) -> None:
    container = create(stack, restart_policy=RestartPolicy(name="on-failure", maximum_retry_count=1))
    stack.client.call(StartContainer(container=container))
    tries: list[RuntimeStart] = []

    def fail(job: RuntimeStart) -> Any:
        tries.append(job)
        raise Unavailable("it does not answer")

    stack.world.script["runtime_start"] = fail
    stack.world.exit(container, 3)
    wait(lambda: len(tries) >= 3)
    stack.world.script.clear()
    until(stack, container, "running")
    assert shown(stack, container).restart_count == 1


def test_a_start_by_hand_begins_to_count_anew(stack: Any) -> None:
    container = create(stack, restart_policy=RestartPolicy(name="on-failure", maximum_retry_count=1))
    stack.client.call(StartContainer(container=container))
    stack.world.exit(container, 1)
    until(stack, container, "running")
    stack.world.exit(container, 1)
    until(stack, container, "exited")
    stack.client.call(StartContainer(container=container))
    assert shown(stack, container).restart_count == 0


@pytest.mark.parametrize("policy", ["always", "unless-stopped"])
def test_what_its_user_has_stopped_is_started_by_a_new_stack_alone_and_only_always(stack: Any, policy: str) -> None:
    container = create(stack, restart_policy=RestartPolicy(name=policy))
    stack.client.call(StartContainer(container=container))
    stack.client.call(StopContainer(container=container))
    restart_engine(stack)  # one process of the same stack
    assert state_of(stack, container).status == "exited"
    stack.identity = StackId(boot="b", arbiter="another")
    restart_engine(stack)
    if policy == "always":
        until(stack, container, "running")
    else:
        assert state_of(stack, container).status == "exited"


def kill(stack: Any) -> None:
    with suppress(DockyardError):
        stack.client.call(KillContainer(container="web"))


def test_a_kill_is_on_record_before_the_signal_is_sent(stack: Any) -> None:
    """An engine that dies with it must not restart what was killed."""
    container = create(stack, restart_policy=ALWAYS)
    stack.client.call(StartContainer(container=container))
    sent, go_on = threading.Event(), threading.Event()

    def hang(job: Any) -> None:
        sent.set()
        go_on.wait(5)

    stack.world.script["runtime_kill"] = hang
    asking = threading.Thread(target=kill, args=(stack,))
    asking.start()
    assert sent.wait(5)
    entry = stack.world.running[container]
    stack.stop_engine()
    stack.world.script.clear()
    stack.world.running[container] = type(entry)(
        container=container, generation=1, pid=0, monitor_pid=0, exit_code=137, exited_at=time.time()
    )
    go_on.set()
    stack.start_engine()
    stack.client.call(AwaitService(service="engine"))
    asking.join(15)
    assert state_of(stack, container).status == "exited"


def test_one_that_removes_itself_and_was_given_back_by_an_engine_that_died_is_removed(stack: Any) -> None:
    container = create(stack, auto_remove=True)
    stack.client.call(StartContainer(container=container))
    begun = threading.Event()

    def refuse(job: Any) -> None:
        begun.set()
        raise Unavailable("it died")

    stack.world.script["layer_remove"] = refuse
    stack.world.exit(container, 3)
    assert begun.wait(5)
    stack.stop_engine()
    stack.world.script.clear()
    stack.start_engine()
    stack.client.call(AwaitService(service="engine"))
    wait(lambda: not stack.client.call(ListContainers(all=True)))
    with pytest.raises(NotFound):
        shown(stack, container)


@pytest.mark.parametrize("policy", ["always", "unless-stopped", "no"])
def test_what_is_stopped_because_the_host_goes_down_is_started_by_a_new_stack_alone(stack: Any, policy: str) -> None:
    container = create(stack, restart_policy=RestartPolicy(name=policy))
    stack.client.call(StartContainer(container=container))
    stack.client.call(StopContainer(container=container, shutdown=True))
    time.sleep(0.3)  # longer than the delay of a first restart
    assert state_of(stack, container).status == "exited"
    stack.identity = StackId(boot="b2", arbiter="a")
    restart_engine(stack)
    if policy == "no":
        assert state_of(stack, container).status == "exited"
    else:
        until(stack, container, "running")


def test_an_exit_in_the_midst_of_a_boot_is_followed_by_a_restart_at_its_end(stack: Any) -> None:
    """Until then a netdriver takes away what no record had when the boot began."""
    container = create(stack, restart_policy=ALWAYS)
    stack.client.call(StartContainer(container=container))
    booting, go_on = threading.Event(), threading.Event()

    def hold(job: InitNetworkDriver) -> Bridge:
        booting.set()
        go_on.wait(10)
        return Bridge(name="dyt0", address="192.0.2.1/24", subnet="192.0.2.0/24", mtu=1500)

    stack.world.script["init_networkdriver"] = hold
    before = len(stack.world.calls)
    stack.restart_engine()
    assert booting.wait(10)
    stack.world.exit(container, 1)
    stack.world.running.pop(container, None)  # unless the engine had it deleted already
    threading.Event().wait(0.5)  # five times the delay
    assert not [job for job in stack.world.calls[before:] if isinstance(job, AllocateInterface | RuntimeStart)]
    go_on.set()
    until(stack, container, "running")
    assert shown(stack, container).restart_count == 1
