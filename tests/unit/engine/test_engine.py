from __future__ import annotations

import threading
from typing import Any

import pytest
import zmq

from services.engine.record import Status
from services.engine.views import NEVER
from shared.bus.sockets import dealer, engine_endpoint
from shared.protocol import (
    MAGIC,
    AwaitService,
    CommandNotFound,
    Conflict,
    ContainerExited,
    DeleteImage,
    DockyardError,
    Frame,
    Header,
    InspectContainer,
    InvalidArgument,
    JobNotFound,
    KillContainer,
    Kind,
    ListCommands,
    ListContainers,
    ListJobs,
    NotFound,
    NotImplementedByUs,
    NotModified,
    Ping,
    ReadEvents,
    RemoveContainer,
    RenameContainer,
    RestartPolicy,
    Running,
    RuntimeStart,
    StartContainer,
    StopContainer,
    SystemInfo,
    Unavailable,
    WaitContainer,
    catalogue,
    encode_body,
    new_id,
)
from tests.unit.engine.conftest import ask
from tests.unit.engine.doing import actions, create, state_of, until


def test_a_container_lives_from_create_to_remove(stack: Any) -> None:
    container = create(stack)
    stack.client.call(StartContainer(container="web"))
    assert state_of(stack, "web").running
    shown = stack.client.call(InspectContainer(container=container[:5]))
    assert shown.network_settings.networks["bridge"].ip_address == "192.0.2.2"
    assert "LANG=C" in shown.config.env
    assert shown.config.labels == {"from": "image"}
    with pytest.raises(NotModified):
        stack.client.call(StartContainer(container="web"))
    with pytest.raises(Conflict, match="container is running"):
        stack.client.call(RemoveContainer(container="web"))
    stack.client.call(StopContainer(container="web"))
    state = state_of(stack, "web")
    assert (state.status, state.exit_code) == ("exited", 143)
    with pytest.raises(NotModified):
        stack.client.call(StopContainer(container="web"))
    stack.client.call(RemoveContainer(container="web"))
    with pytest.raises(NotFound, match="No such container: web"):
        state_of(stack, "web")
    world = stack.world
    assert not world.layers | world.mounted | set(world.interfaces) | set(world.running)
    told = actions(stack)
    assert told.index("die") < told.index("disconnect") < told.index("destroy")
    told.remove("disconnect")  # before or after the stop has returned
    assert told == ["load", "create", "connect", "start", "kill", "die", "stop", "destroy"]


def test_events_are_numbered_without_gaps(stack: Any) -> None:
    create(stack)
    assert [event.seq for event in stack.client.call(ReadEvents(after=0))] == [1, 2]


def test_a_failed_start_gives_everything_back_and_can_be_repeated(stack: Any) -> None:
    create(stack)

    def fail(job: RuntimeStart) -> None:
        raise CommandNotFound('exec: "x": executable file not found in $PATH')

    stack.world.script["runtime_start"] = fail
    with pytest.raises(CommandNotFound, match="executable file not found"):
        stack.client.call(StartContainer(container="web"))
    state = state_of(stack, "web")
    assert (state.status, state.exit_code, state.started_at) == ("created", 127, NEVER)
    assert not stack.world.mounted | set(stack.world.interfaces)
    del stack.world.script["runtime_start"]
    stack.client.call(StartContainer(container="web"))
    state = state_of(stack, "web")
    assert state.running and state.started_at > NEVER


def test_a_failed_start_is_no_start(stack: Any) -> None:
    """StartedAt tells when it last ran (moby sets it where the process runs)."""
    create(stack)
    stack.client.call(StartContainer(container="web"))
    stack.client.call(StopContainer(container="web"))
    before = state_of(stack, "web").started_at

    def fail(job: RuntimeStart) -> None:
        raise DockyardError("not now")

    stack.world.script["runtime_start"] = fail
    with pytest.raises(DockyardError, match="not now"):
        stack.client.call(StartContainer(container="web"))
    assert state_of(stack, "web").started_at == before


def test_wait_knows_its_three_conditions(stack: Any) -> None:
    container = create(stack, auto_remove=True)
    codes: dict[str, int] = {}
    ready = threading.Barrier(3)

    def wait(condition: str) -> None:
        job = WaitContainer(container=container, condition=condition)
        exit_ = stack.client.call(job, timeout=20, on_status=lambda _: ready.wait(5))
        codes[condition] = exit_.status_code

    threads = [threading.Thread(target=wait, args=(c,)) for c in ("next-exit", "removed")]
    for thread in threads:
        thread.start()
    ready.wait(5)
    stack.client.call(StartContainer(container=container))
    stack.world.exit(container, 7)
    for thread in threads:
        thread.join(10)
    assert codes == {"next-exit": 7, "removed": 7}
    with pytest.raises(InvalidArgument):
        stack.client.call(WaitContainer(container=container, condition="sometime"))


def test_a_lost_wait_is_taken_up_again_even_after_the_removal(stack: Any) -> None:
    container = create(stack, auto_remove=True)
    stack.client.call(StartContainer(container=container))
    stack.world.exit(container, 3)
    again = WaitContainer(container=container, condition="removed", generation=1)
    assert stack.client.call(again).status_code == 3


def test_a_new_engine_finds_everything_as_it_was(stack: Any) -> None:
    running, gone, stopped = create(stack, "running"), create(stack, "gone"), create(stack, "stopped")
    for ref in (running, gone):
        stack.client.call(StartContainer(container=ref))
    stack.stop_engine()
    entry = stack.world.running[gone]
    stack.world.running[gone] = type(entry)(
        container=gone, generation=1, pid=0, monitor_pid=0, exit_code=9, exited_at=1e9
    )
    stack.start_engine()
    stack.client.call(AwaitService(service="engine"))
    assert state_of(stack, running).running
    assert (state_of(stack, gone).status, state_of(stack, gone).exit_code) == ("exited", 9)
    assert state_of(stack, stopped).status == "created"
    stack.client.call(StopContainer(container=running))
    assert state_of(stack, running).exit_code == 143


def test_what_no_record_wants_is_removed_at_boot(stack: Any) -> None:
    container = create(stack)
    stack.client.call(StartContainer(container=container))
    entry = stack.world.running[container]
    stack.world.running["f" * 64] = type(entry)(container="f" * 64, generation=1, pid=1, monitor_pid=1)
    stack.restart_engine()
    stack.client.call(AwaitService(service="engine"))
    assert set(stack.world.running) == {container}


def test_a_vanished_process_is_an_exit_255(stack: Any) -> None:
    container = create(stack)
    stack.client.call(StartContainer(container=container))
    stack.world.running.clear()
    stack.restart_engine()
    stack.client.call(AwaitService(service="engine"))
    assert (state_of(stack, container).status, state_of(stack, container).exit_code) == ("exited", 255)
    assert state_of(stack, container).error == "its end was seen by nobody, and its exit status is lost"


def test_an_exit_with_an_error_shows_it_until_the_next_start(stack: Any) -> None:
    container = create(stack)
    stack.client.call(StartContainer(container=container))
    stack.client.call(
        ContainerExited(container=container, generation=1, exit_code=137, exited_at=1e9, error="it was lost")
    )
    assert (state_of(stack, container).exit_code, state_of(stack, container).error) == (137, "it was lost")
    stack.client.call(StartContainer(container=container))
    assert state_of(stack, container).error == ""


def test_a_list_older_than_an_exit_does_not_bring_a_container_back(stack: Any) -> None:
    """The execdriver comes back, is asked what runs, and the container ends before the answer is used."""
    container = create(stack)
    stack.client.call(StartContainer(container=container))
    listed, go_on = threading.Event(), threading.Event()
    before = list(stack.world.running.values())

    def stale(job: Any) -> Any:
        if listed.is_set():
            return list(stack.world.running.values())
        listed.set()
        assert go_on.wait(5)
        return before

    stack.world.script["runtime_list"] = stale
    stack.restart_execdriver()
    assert listed.wait(5)
    stack.world.exit(container, 3)
    go_on.set()
    until(stack, container, "exited")
    settled = threading.Event()
    for _ in range(20):
        assert state_of(stack, container).status == "exited"
        settled.wait(0.01)


def test_a_start_that_failed_for_its_caller_is_undone_whatever_it_left(stack: Any) -> None:
    container = create(stack)

    def fail(job: RuntimeStart) -> None:
        raise Unavailable("it took too long")

    stack.world.script["runtime_start"] = fail
    stack.world.script["runtime_delete"] = fail  # nothing can be given back at first
    once = ask(stack, Header(id=new_id(), name="start"), StartContainer(container=container))
    assert isinstance(once.error(), Unavailable)
    stack.world.running[container] = Running(container=container, generation=1, pid=7, monitor_pid=6)
    stack.world.script.clear()
    stack.restart_engine()
    stack.client.call(AwaitService(service="engine"))
    for _ in range(500):
        if not stack.world.running:
            break
        threading.Event().wait(0.01)
    assert not stack.world.running
    assert not state_of(stack, container).running


def test_restart_policies(stack: Any) -> None:
    container = create(stack, restart_policy=RestartPolicy(name="on-failure", maximum_retry_count=1))
    stack.client.call(StartContainer(container=container))
    stack.world.exit(container, 1)
    until(stack, container, "running")
    shown = stack.client.call(InspectContainer(container=container))
    assert shown.restart_count == 1
    stack.world.exit(container, 1)
    until(stack, container, "exited")
    with pytest.raises(InvalidArgument, match="can't create 'AutoRemove' container with restart policy"):
        create(stack, "both", auto_remove=True, restart_policy=RestartPolicy(name="always"))


def test_names_are_unique_checked_and_changed(stack: Any) -> None:
    container = create(stack)
    with pytest.raises(Conflict, match=f'already in use by container "{container}"'):
        create(stack)
    with pytest.raises(InvalidArgument, match="Invalid container name"):
        create(stack, "-x")
    stack.client.call(RenameContainer(container="web", name="db"))
    create(stack)
    assert {c.names[0] for c in stack.client.call(ListContainers(all=True))} == {"/web", "/db"}


def test_what_is_not_done_is_refused_by_name(stack: Any) -> None:
    with pytest.raises(NotImplementedByUs, match="StorageOpt"):
        create(stack, storage_opt={"size": "1G"})


def test_kill_needs_a_running_container_and_a_signal(stack: Any) -> None:
    create(stack)
    with pytest.raises(Conflict, match="is not running"):
        stack.client.call(KillContainer(container="web"))
    with pytest.raises(InvalidArgument, match="Invalid signal: NONE"):
        stack.client.call(KillContainer(container="web", signal="NONE"))


def test_an_image_in_use_stays(stack: Any) -> None:
    create(stack)
    with pytest.raises(Conflict, match="must be forced"):
        stack.client.call(DeleteImage(image="busybox"))
    stack.client.call(RemoveContainer(container="web"))
    gone = stack.client.call(DeleteImage(image="busybox"))
    assert [entry.untagged or entry.deleted[:7] for entry in gone][:2] == ["busybox:latest", "sha256:"]
    with pytest.raises(NotFound, match="No such image: busybox:latest"):
        create(stack)


def test_a_bad_record_is_quarantined_and_reported(stack: Any) -> None:
    import sqlite3

    good, bad = create(stack), create(stack, "bad")
    stack.stop_engine()
    database = sqlite3.connect(stack.config.root / "engine.db")
    database.execute("UPDATE containers SET record = '{\"id\": 7}' WHERE id = ?", (bad,))
    database.commit()
    database.close()
    stack.start_engine()
    assert [c.id for c in stack.client.call(ListContainers(all=True))] == [good]
    stack.client.call(AwaitService(service="engine"))
    assert any(bad in warning for warning in stack.client.call(SystemInfo())["Warnings"])


def test_control_answers_while_other_jobs_hang(stack: Any) -> None:
    create(stack)
    release = threading.Event()
    mounting = threading.Event()

    def hang(job: Any) -> str:
        mounting.set()
        release.wait(10)
        return "/rootfs"

    stack.world.script["layer_mount"] = hang
    starter = threading.Thread(target=stack.client.call, args=(StartContainer(container="web"),))
    starter.start()
    assert mounting.wait(5)
    for job in (Ping(), ListCommands(), ListContainers(all=True), SystemInfo()):
        stack.client.call(job, timeout=1)
    names = {job.name for job in stack.client.call(ListJobs(running=True))}
    assert {"start", "layer_mount"} <= names
    release.set()
    starter.join(10)
    assert state_of(stack, "web").status == Status.RUNNING


def test_a_trace_shows_a_job_and_its_children(stack: Any) -> None:
    create(stack)
    stack.client.call(StartContainer(container="web"))
    (start,) = [job for job in stack.client.call(ListJobs()) if job.name == "start"]
    traced = {job.name: job for job in stack.client.call(ListJobs(trace=start.id[:12]))}
    assert {"start", "layer_mount", "allocate_interface", "runtime_start"} == set(traced)
    assert traced["layer_mount"].parent == start.id
    assert all(job.ended is not None for job in traced.values())


def test_a_deadline_ends_the_waiting(stack: Any) -> None:
    container = create(stack)
    stack.client.call(StartContainer(container=container))
    with pytest.raises(Unavailable):
        stack.client.call(WaitContainer(container=container), timeout=0.3)


def job_header(name: str, **others: str) -> bytes:
    return encode_body(Header(**{"id": "1" * 32, "name": name, **others}))


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ([b"DY0", b"JOB", b"{}", b"null"], InvalidArgument),
        ([MAGIC, b"SHOUT", b"{}", b"null"], InvalidArgument),
        ([MAGIC], InvalidArgument),
        ([MAGIC, b"JOB", b"{}", b"null"], InvalidArgument),
        ([MAGIC, b"JOB", job_header("kill"), b"{"], InvalidArgument),
        ([MAGIC, b"JOB", job_header("kill"), b'{"job":"kill","container":[]}'], InvalidArgument),
        ([MAGIC, b"JOB", job_header("nonesuch"), b"{}"], JobNotFound),
        ([MAGIC, b"JOB", job_header("ping", id="1"), b"{}"], InvalidArgument),
        ([MAGIC, b"JOB", job_header("ping", id="A" * 32), b"{}"], InvalidArgument),
        ([MAGIC, b"JOB", job_header("ping", parent="x\n2026 another line"), b"{}"], InvalidArgument),
        ([MAGIC, b"EVENT", b"{}", b"null"], InvalidArgument),
        ([MAGIC, b"REGISTER", b'{"name":"x"}', b'{"names":["ping"],"pid":1}'], Conflict),
        ([MAGIC, b"REGISTER", b'{"name":"x"}', b'{"names":["layer_mount"],"pid":1}'], Conflict),
        ([MAGIC, b"REGISTER", b'{"name":"x"}', b"7"], InvalidArgument),
    ],
)
def test_bad_frames_are_answered_and_the_engine_lives(stack: Any, parts: list[bytes], error: type) -> None:
    stack.client.call(AwaitService(service="engine"))
    context = zmq.Context.instance()
    socket = dealer(context, engine_endpoint(stack.config.run))
    try:
        socket.send_multipart(parts)
        assert socket.poll(5000)
        answer = Frame.parse(socket.recv_multipart())
        assert answer.kind is Kind.RESULT
        assert type(answer.error()) is error
    finally:
        socket.close(0)
    assert stack.client.call(Ping()) == "OK"


def test_an_over_long_message_is_dropped_and_the_engine_lives(stack: Any) -> None:
    context = zmq.Context.instance()
    socket = dealer(context, engine_endpoint(stack.config.run))
    try:
        socket.send_multipart([*Frame(Kind.JOB, Header(id="1", name="kill")).parts()[:3], b"x" * (17 << 20)])
        assert stack.client.call(Ping()) == "OK"
        assert not socket.poll(200)
    finally:
        socket.close(0)


def test_every_job_of_the_engine_is_in_the_catalogue(stack: Any) -> None:
    assert set(stack.client.call(ListCommands())) <= set(catalogue())


def test_encoded_jobs_are_what_a_person_would_type() -> None:
    assert encode_body(KillContainer(container="web")) == b'{"job":"kill","container":"web"}'
