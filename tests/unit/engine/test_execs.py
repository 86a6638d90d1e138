"""Execs in the engine: when they may be made and started, what is on record, and what outages do to them."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from services.engine.container import Container
from services.engine.execs import KEPT, KEPT_TIME, UNSTARTED_TIME, Exec, ExecRecord, Execs
from services.engine.lifecycle.execs import check_running
from services.engine.record import ContainerRecord, Status
from services.engine.store import Store
from shared.protocol import (
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    ContainerConfig,
    CreateContainer,
    CreateExec,
    DockyardError,
    ExecConfig,
    Header,
    InspectContainer,
    InspectExec,
    InvalidArgument,
    NotFound,
    ReadEvents,
    RemoveContainer,
    ResizeExec,
    RuntimeExec,
    StartContainer,
    StartExec,
    StopContainer,
    Unavailable,
    WaitExec,
)
from shared.protocol.config import HostConfig
from tests.unit.engine.conftest import Stack, ask


def run(stack: Stack, **host: Any) -> str:
    config = ContainerConfig(image="busybox", env=["A=1"], user="app", working_dir="/srv")
    made = stack.client.call(CreateContainer(name="web", config=config, host_config=HostConfig(**host)))
    stack.client.call(StartContainer(container="web"))
    return made.id


def create(stack: Stack, **config: Any) -> str:
    return stack.client.call(CreateExec(container="web", config=ExecConfig(cmd=["ls", "-l"], **config))).id


def actions(stack: Stack, container: str) -> list[str]:
    return [event.action for event in stack.client.call(ReadEvents()) if event.actor.id == container]


def test_an_exec_from_create_to_its_end(stack: Stack) -> None:
    container = run(stack)
    exec_id = create(stack, env=["B=2"], tty=True, attach_stdin=True)
    before = stack.client.call(InspectExec(exec=exec_id))
    assert (before.running, before.exit_code, before.pid) == (False, None, 0)
    started = stack.client.call(StartExec(exec=exec_id, console_size=(5, 6)))
    assert (started.tty, started.stdin, started.stdout) == (True, True, False)
    job = next(job for job in stack.world.calls if isinstance(job, RuntimeExec))
    assert (job.user, job.working_dir, job.console_size, job.attach) == ("app", "/srv", (5, 6), True)
    assert {"A=1", "B=2", "LANG=C"} <= set(job.env)
    running = stack.client.call(InspectExec(exec=exec_id))
    assert (running.running, running.exit_code, running.pid) == (True, None, 77)
    assert stack.client.call(InspectContainer(container="web")).exec_ids == [exec_id]
    stack.world.end_exec(exec_id, 3)
    ended = stack.client.call(InspectExec(exec=exec_id))
    assert (ended.running, ended.exit_code, ended.can_remove) == (False, 3, True)
    assert ended.process_config.entrypoint == "ls"
    assert stack.client.call(WaitExec(exec=exec_id)) == 3
    assert stack.client.call(InspectContainer(container="web")).exec_ids is None
    assert actions(stack, container)[-3:] == ["exec_create: ls -l", "exec_start: ls -l", "exec_die"]


def test_what_cannot_be_made_is_refused_in_dockers_words(stack: Stack) -> None:
    container = run(stack)
    with pytest.raises(InvalidArgument, match="No exec command specified"):
        stack.client.call(CreateExec(container="web"))
    with pytest.raises(InvalidArgument, match="invalid environment variable: =x"):
        stack.client.call(CreateExec(container="web", config=ExecConfig(cmd=["true"], env=["A=b", "=x"])))
    for job in (StartExec(exec="nonesuch"), InspectExec(exec="nonesuch"), WaitExec(exec="nonesuch")):
        with pytest.raises(NotFound, match="No such exec instance: nonesuch"):
            stack.client.call(job)
    exec_id = create(stack)
    with pytest.raises(Conflict):
        stack.client.call(ResizeExec(exec=exec_id, height=1, width=1))
    stack.client.call(StopContainer(container="web", timeout=0))
    with pytest.raises(Conflict, match=f"container {container} is not running"):
        stack.client.call(StartExec(exec=exec_id))


@pytest.mark.parametrize(
    ("status", "text"),
    [
        ("created", "container c1 is not running"),
        ("exited", "container c1 is not running"),
        ("paused", "Container c1 is paused, unpause the container before exec"),
        ("restarting", "Container c1 is restarting, wait until the container is running"),
    ],
)
def test_a_container_that_does_not_run_takes_no_exec(status: str, text: str) -> None:
    record = ContainerRecord(
        id="c1", name="web", created=1, image="", requested_image="", args=["x"],
        config=ContainerConfig(), host_config=HostConfig(),
    )  # fmt: skip
    record.status = status if status == "paused" else Status(status)
    with pytest.raises(Conflict, match=text):
        check_running(Container(record))


def test_an_exec_runs_once_but_its_caller_may_ask_again(stack: Stack) -> None:
    run(stack)
    exec_id = create(stack)
    first, again = Header(id="a" * 32, name="execStart"), Header(id="a" * 32, name="execStart", again=True)
    job = StartExec(exec=exec_id)
    assert ask(stack, first, job).header.status == 0
    assert ask(stack, again, job).header.status == 0
    stack.world.end_exec(exec_id, 0)
    stack.restart_engine()
    assert ask(stack, again, job).header.status == 0
    for header in (Header(id="b" * 32, name="execStart"), Header(id="b" * 32, name="execStart", again=True)):
        error = ask(stack, header, job).error()
        assert isinstance(error, Conflict)
        assert error.message == f"exec command {exec_id} has already run"
    assert len([job for job in stack.world.calls if isinstance(job, RuntimeExec)]) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [(CommandNotFound, 127), (CommandNotExecutable, 126), (InvalidArgument, 126), (DockyardError, 126)],
)
def test_a_command_that_cannot_run_has_an_exit_code(stack: Stack, error: type[DockyardError], code: int) -> None:
    run(stack)
    exec_id = create(stack)
    stack.world.script["runtime_exec"] = lambda job: (_ for _ in ()).throw(error("no"))
    with pytest.raises(error, match="no"):
        stack.client.call(StartExec(exec=exec_id))
    assert stack.client.call(InspectExec(exec=exec_id)).exit_code == code


def test_a_start_that_nobody_can_tell_of_may_be_made_again(stack: Stack) -> None:
    run(stack)
    exec_id = create(stack)
    stack.world.script["runtime_exec"] = lambda job: (_ for _ in ()).throw(Unavailable("away"))
    first, again = Header(id="a" * 32, name="execStart"), Header(id="a" * 32, name="execStart", again=True)
    assert isinstance(ask(stack, first, StartExec(exec=exec_id)).error(), Unavailable)
    assert stack.client.call(InspectExec(exec=exec_id)).exit_code is None
    del stack.world.script["runtime_exec"]
    assert ask(stack, again, StartExec(exec=exec_id)).header.status == 0


def test_execs_outlive_the_engine(stack: Stack) -> None:
    run(stack)
    made, runs, lost, begun = (create(stack) for _ in range(4))
    for exec_id in (runs, lost, begun):
        ask(stack, Header(id=exec_id[:32], name="execStart"), StartExec(exec=exec_id))
    stack.stop_engine()
    del stack.world.execs[lost]
    stack.start_engine()
    stack.client.call(StartExec(exec=made))
    assert stack.client.call(InspectExec(exec=lost)).exit_code == 255
    waited: list[int] = []
    waiter = threading.Thread(target=lambda: waited.append(stack.client.call(WaitExec(exec=runs))))
    waiter.start()
    stack.world.end_exec(runs, 4)
    waiter.join(5)
    assert waited == [4]
    again = Header(id=begun[:32], name="execStart", again=True)
    assert ask(stack, again, StartExec(exec=begun)).header.status == 0
    assert stack.client.call(InspectExec(exec=begun)).running


def test_a_removed_container_takes_its_execs_along(stack: Stack) -> None:
    run(stack)
    exec_id = create(stack)
    stack.client.call(StartExec(exec=exec_id))
    codes: list[int] = []
    waiter = threading.Thread(target=lambda: codes.append(stack.client.call(WaitExec(exec=exec_id))))
    waiter.start()
    stack.client.call(RemoveContainer(container="web", force=True))
    waiter.join(5)
    assert codes == [255]
    with pytest.raises(NotFound):
        stack.client.call(InspectExec(exec=exec_id))
    stack.world.end_exec(exec_id, 0)  # is acknowledged all the same


def test_records_are_bounded_in_number_and_age(tmp_path: Any) -> None:
    store = Store(tmp_path)
    execs = Execs(store)
    now = time.time_ns()

    def add(name: str, **fields: Any) -> None:
        record = ExecRecord(id=name, container="c", args=["x"], config=ExecConfig(), **fields)
        store.put_exec(record)
        execs.add(Exec(record))

    add("old", created=1, exit_code=0, ended=now - int((KEPT_TIME + 1) * 1e9))
    add("new", created=2, exit_code=0, ended=now)
    add("runs", created=3, pid=7)
    add("forgotten", created=now - int((UNSTARTED_TIME + 1) * 1e9))
    execs.sweep(now)
    assert [exec_.record.id for exec_ in execs] == ["new", "runs"]
    for number in range(KEPT + 5):
        add(f"n{number}", created=now + number, exit_code=0, ended=now)
    assert len(list(execs)) == KEPT + 1
    assert execs.by_id("runs")
    assert len(store.execs()) == KEPT + 1
    store.close()
