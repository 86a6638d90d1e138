"""A job that changes something, asked again after its engine has died: done once, and answered as before."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest

from shared.protocol import (
    AwaitService,
    CommitContainer,
    ContainerConfig,
    CreateContainer,
    CreateExec,
    CreateVolume,
    DeleteImage,
    DeleteVolume,
    ExecConfig,
    Header,
    HostConfig,
    Image,
    Job,
    KillContainer,
    ListVolumes,
    LogEvent,
    NotFound,
    PauseContainer,
    ReadEvents,
    RemoveContainer,
    RenameContainer,
    RuntimeKill,
    SetImage,
    StartContainer,
    TagImage,
    Unavailable,
    UnpauseContainer,
    UpdateContainer,
    decode_body,
    job_name,
    new_id,
)
from tests.unit.engine.conftest import IMAGE, ask
from tests.unit.engine.doing import actions, state_of
from tests.unit.engine.test_asked_again import interrupt


def running(stack: Any, name: str = "web", **host: Any) -> str:
    job = CreateContainer(name=name, config=ContainerConfig(image="busybox"), host_config=HostConfig(**host))
    container = stack.client.call(job).id
    stack.client.call(StartContainer(container=name))
    return str(container)


def prepare(stack: Any) -> None:
    """A container that runs, one that is paused and linked to it, a volume, a second tag."""
    running(stack, "web")
    running(stack, "still", links=["web:alias"])
    stack.client.call(PauseContainer(container="still"))
    stack.client.call(CreateVolume(name="data"))
    stack.client.call(TagImage(image="busybox", repo="second"))


ONCE: list[Job[Any]] = [
    KillContainer(container="web", signal="USR1"),
    PauseContainer(container="web"),
    UnpauseContainer(container="still"),
    UpdateContainer(container="web", host_config=HostConfig(pids_limit=7)),
    RenameContainer(container="web", name="other"),
    RemoveContainer(container="still/alias", link=True),
    RemoveContainer(container="web", force=True),
    CreateExec(container="web", config=ExecConfig(cmd=["true"])),
    CreateVolume(),
    CreateVolume(name="named"),
    DeleteVolume(volume="data"),
    TagImage(image="busybox", repo="third"),
    DeleteImage(image="second"),
    LogEvent(action="mine", id="x"),
]


@pytest.mark.parametrize("job", ONCE, ids=lambda job: f"{job_name(job)}-{ONCE.index(job)}")
def test_what_comes_after_its_deadline_is_not_done(stack: Any, job: Job[Any]) -> None:
    prepare(stack)
    before = stack.client.call(ReadEvents(after=0))
    late = ask(stack, Header(id=new_id(), name=job_name(job), deadline=time.monotonic() - 1), job).error()
    assert (type(late), late.message) == (Unavailable, f"{job_name(job)}: not begun before the deadline")
    assert stack.client.call(ReadEvents(after=0)) == before


@pytest.mark.parametrize("job", ONCE, ids=lambda job: f"{job_name(job)}-{ONCE.index(job)}")
def test_what_was_done_before_the_engine_died_is_answered_and_not_done_again(stack: Any, job: Job[Any]) -> None:
    prepare(stack)
    header = Header(id=new_id(), name=job_name(job))
    first = ask(stack, header, job)
    assert first.header.status == 0, first
    events, calls = actions(stack), len(stack.world.calls)
    stack.restart_engine()
    stack.client.call(AwaitService(service="engine"))
    second = ask(stack, msgspec.structs.replace(header, again=True), job)
    assert second == first
    assert actions(stack) == events
    names = {job_name(call) for call in stack.world.calls[calls:]}
    assert not names & {"runtime_kill", "runtime_pause", "runtime_unpause", "runtime_update", "volumedriver_create"}


@pytest.mark.parametrize(("kind", "step"), [(PauseContainer, "runtime_pause"), (UnpauseContainer, "runtime_unpause")])
def test_a_pause_during_which_the_engine_dies_is_the_askers(stack: Any, kind: Any, step: str) -> None:
    container = running(stack)
    pauses = kind is PauseContainer
    if not pauses:
        stack.client.call(PauseContainer(container="web"))

    def freeze(job: Any) -> None:
        entry = stack.world.running[container]
        stack.world.running[container] = msgspec.structs.replace(entry, paused=pauses)

    interrupt(stack, kind(container="web"), step, freeze, lambda: None)
    assert state_of(stack, "web").paused is pauses
    assert actions(stack).count("pause" if pauses else "unpause") == 1


def test_a_signal_carries_who_asks_for_it_so_that_it_is_sent_once(stack: Any) -> None:
    running(stack)
    header = Header(id=new_id(), name="kill")
    ask(stack, header, KillContainer(container="web", signal="USR1"))
    stack.client.call(KillContainer(container="web"))
    user, kill = (job for job in stack.world.calls if isinstance(job, RuntimeKill))
    assert (user.once, kill.once) == (header.id, "")


def test_a_volume_that_was_made_for_this_job_is_its_answer(stack: Any) -> None:
    """The engine dies between the volume and the answer; the volume has no name that the asker could know."""
    header = Header(id=new_id(), name="volume_create")
    first = ask(stack, header, CreateVolume())
    stack.restart_engine()
    assert ask(stack, msgspec.structs.replace(header, again=True), CreateVolume()) == first
    assert len(stack.client.call(ListVolumes()).volumes) == 1


def test_a_removal_that_a_new_engine_ends_is_the_askers(stack: Any) -> None:
    stack.client.call(CreateVolume(name="data"))
    interrupt(stack, DeleteVolume(volume="data"), "volumedriver_remove", lambda job: None, lambda: None)
    running(stack)
    interrupt(stack, RemoveContainer(container="web", force=True), "layer_remove", lambda job: None, lambda: None)
    assert actions(stack).count("destroy") == 2


def test_a_commit_that_was_recorded_is_made_once(stack: Any) -> None:
    """The image is on record; the engine dies before the answer. What a second making brings is nobody's."""
    running(stack)
    made: list[Image] = []

    def commit(job: Any) -> str:
        image = msgspec.structs.replace(IMAGE, id=f"sha256:{len(made):064x}")
        made.append(image)
        record = SetImage(image=image, tags=job.image.tags, action="create", order=job.image.order)
        ask(stack, Header(id=new_id(), name="image_set"), record)
        return image.id

    header = Header(id=new_id(), name="commit")
    stack.world.script["layer_commit"] = commit
    job = CommitContainer(container="web", repo="made", pause=False)
    frame = ask(stack, header, job)
    stack.restart_engine()
    stack.client.call(AwaitService(service="engine"))
    again = ask(stack, msgspec.structs.replace(header, again=True), job)
    assert decode_body(again.body, str) == decode_body(frame.body, str) == made[0].id
    assert len(made) == 1
    late = msgspec.structs.replace(IMAGE, id="sha256:" + "e" * 64)
    stack.client.call(SetImage(image=late, action="create", order=header.id))
    with pytest.raises(NotFound, match="No such image"):
        stack.client.call(TagImage(image=late.id, repo="late"))
