"""Jobs as the engine keeps them: call strings, who asked, what they wait for, how they end."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

import pytest
import zmq

from shared.bus.sockets import dealer, engine_endpoint
from shared.protocol import (
    AwaitService,
    ContainerConfig,
    CreateContainer,
    Frame,
    Header,
    InvalidArgument,
    Job,
    JobNotFound,
    KillContainer,
    Kind,
    ListJobs,
    MountLayer,
    NotFound,
    PastJob,
    Ping,
    Registration,
    StartContainer,
    Unavailable,
    WaitContainer,
    encode_body,
)


def jobs(stack: Any, **which: Any) -> list[PastJob]:
    found: list[PastJob] = stack.client.call(ListJobs(**which))
    return found


def until(condition: Any) -> Any:
    deadline = time.monotonic() + 5
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return value


def create(stack: Any) -> str:
    stack.client.call(AwaitService(service="engine"))
    return str(stack.client.call(CreateContainer(name="web", config=ContainerConfig(image="busybox"))).id)


def in_thread(stack: Any, job: Job[Any], **options: Any) -> threading.Thread:
    def ask() -> None:
        try:
            stack.client.call(job, **options)
        except Exception:
            return

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def test_the_log_has_call_strings(stack: Any, caplog: Any) -> None:
    create(stack)
    with caplog.at_level(logging.INFO, "dockyard.jobs"):
        stack.client.call(StartContainer(container="web"))
        with pytest.raises(InvalidArgument):
            stack.client.call(KillContainer(container="web", signal="NO"))
    lines = [record.getMessage() for record in caplog.records if record.name == "dockyard.jobs"]
    assert any(line.startswith("+job start(web) job=") for line in lines)
    assert any(line.startswith("-job start(web) = OK (0) ") and "ms job=" in line for line in lines)
    assert any(line.startswith("-job kill(web, NO) = ERR (1) ") for line in lines)


def test_the_journal_says_who_asked_as_the_kernel_has_it(stack: Any) -> None:
    with pytest.raises(NotFound):
        stack.client.call(StartContainer(container="nobody"))
    (entry,) = jobs(stack, name="start", failed=True)
    assert (entry.caller, entry.uid, entry.args) == (f"test[{os.getpid()}]", os.geteuid(), "nobody")
    assert (entry.status, entry.message) == (1, "No such container: nobody")
    assert not jobs(stack, name="start", since=time.time() + 1)


def test_a_job_under_way_says_what_it_waits_for(stack: Any) -> None:
    container = create(stack)
    stack.client.call(StartContainer(container="web"))
    waiter = in_thread(stack, WaitContainer(container="web"), timeout=None)
    entry = until(lambda: [job for job in jobs(stack, running=True, name="wait") if job.waiting])[0]
    assert (entry.waiting, entry.deadline) == ("the exit of container web", None)
    assert entry.waiting_since and entry.started <= entry.waiting_since <= time.time()
    stack.world.exit(container, 0)
    waiter.join(5)


def test_a_start_shows_the_driver_and_who_comes_second_the_lock(stack: Any) -> None:
    create(stack)
    go_on = threading.Event()

    def mount(job: MountLayer) -> str:
        assert go_on.wait(10)
        return "/rootfs"

    stack.world.script["layer_mount"] = mount
    first = in_thread(stack, StartContainer(container="web"))
    until(lambda: any(job.waiting == "layer_mount at graphdriver" for job in jobs(stack, running=True, name="start")))
    second = in_thread(stack, StartContainer(container="web"))
    until(lambda: any(job.waiting == "the lock of container web" for job in jobs(stack, running=True, name="start")))
    go_on.set()
    first.join(5)
    second.join(5)


def test_a_child_has_no_more_time_than_its_parent(stack: Any) -> None:
    stack.client.call(AwaitService(service="engine"))
    asked = threading.Event()

    def late(job: Any) -> int:
        asked.set()
        time.sleep(0.5)
        return 0

    stack.world.script["layer_create"] = late
    began = time.monotonic()
    with pytest.raises(Unavailable, match="deadline"):
        stack.client.call(CreateContainer(name="web", config=ContainerConfig(image="busybox")), timeout=0.2)
    assert time.monotonic() - began < 2
    assert asked.is_set()


def register(stack: Any, service: str, **what: Any) -> zmq.Socket[bytes]:
    """Be a driver: all it takes is to speak the protocol."""
    socket = dealer(zmq.Context.instance(), engine_endpoint(stack.config.run))
    header = Header(name=service)
    registration = Registration(pid=os.getpid(), **what)
    socket.send_multipart(Frame(Kind.REGISTER, header, encode_body(registration)).parts())
    socket.send_multipart(Frame(Kind.READY, header).parts())
    return socket


def receive(socket: zmq.Socket[bytes]) -> Frame:
    assert socket.poll(5000)
    return Frame.parse(socket.recv_multipart())


def test_a_catch_all_gets_what_nobody_else_holds(stack: Any) -> None:
    with pytest.raises(JobNotFound, match="unheard_of: command not found"):
        stack.client.call_raw("unheard_of", b"{}")
    with register(stack, "catchall", names=[], catchall=True) as driver:
        stack.client.call(AwaitService(service="catchall"))
        answers: list[bytes] = []
        asking = threading.Thread(target=lambda: answers.append(stack.client.call_raw("unheard_of", b'{"x":1}')))
        asking.start()
        job = receive(driver)
        assert (job.kind, job.header.name, job.body) == (Kind.JOB, "unheard_of", b'{"x":1}')
        driver.send_multipart(Frame.result(job.header, "heard").parts())
        asking.join(5)
        assert answers == [b'"heard"']
        assert stack.client.call(Ping()) == "OK"


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ({"names": ["layer_mount"]}, "Can't overwrite handler for command layer_mount"),
        ({"names": ["start"]}, "Can't overwrite handler for command start"),
        ({"names": [""]}, "empty job names are illegal"),
    ],
)
def test_a_registration_that_is_refused(stack: Any, what: dict[str, Any], why: str) -> None:
    stack.client.call(AwaitService(service="engine"))
    with register(stack, "impostor", **what) as driver:
        assert why in str(receive(driver).error())


def test_a_driver_that_registers_again_keeps_its_jobs(stack: Any) -> None:
    """It does when the engine's "register" crosses its own, as both come up at the same moment."""
    with register(stack, "catchall", names=[], catchall=True) as driver:
        stack.client.call(AwaitService(service="catchall"))
        answers: list[bytes] = []
        asking = threading.Thread(target=lambda: answers.append(stack.client.call_raw("unheard_of", b"{}", timeout=5)))
        asking.start()
        job = receive(driver)
        registration = Registration(pid=os.getpid(), names=[], catchall=True)
        driver.send_multipart(Frame(Kind.REGISTER, Header(name="catchall"), encode_body(registration)).parts())
        driver.send_multipart(Frame(Kind.READY, Header(name="catchall")).parts())
        driver.send_multipart(Frame.result(job.header, "heard").parts())
        asking.join(6)
        assert answers == [b'"heard"']


def test_a_driver_that_is_too_busy_for_heartbeats_is_not_silent(stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.engine.router.SILENCE_LIMIT", 0.8)
    with register(stack, "busy", names=["toil"]) as driver:
        stack.client.call(AwaitService(service="busy"))
        answers: list[bytes] = []

        def ask() -> None:
            until = time.monotonic() + 3
            while time.monotonic() < until:
                answers.append(stack.client.call_raw("toil", b"{}", timeout=5))
                time.sleep(0.1)

        asking = threading.Thread(target=ask)
        asking.start()
        while asking.is_alive() and driver.poll(1000):
            job = Frame.parse(driver.recv_multipart())
            if job.kind is Kind.JOB:
                driver.send_multipart(Frame.result(job.header, "done").parts())
        asking.join(6)
        assert len(answers) > 15
