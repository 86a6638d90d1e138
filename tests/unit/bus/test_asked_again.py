"""What a worker makes of a job that is asked again, and how long a caller asks."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import zmq

from shared.bus.client import Patience
from shared.bus.handlers import Handlers
from shared.bus.worker import Worker, serve_in_thread
from shared.protocol import (
    Conflict,
    Frame,
    Header,
    Kind,
    Ping,
    Registration,
    SystemVersion,
    decode_body,
    encode_body,
    new_id,
)


class Engine:
    """The engine's side of one connection."""

    def __init__(self, endpoint: str, handlers: Handlers[Any]) -> None:
        self.socket = zmq.Context.instance().socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(endpoint)
        self.worker = Worker(endpoint, "worker", None, handlers, threads=4)
        self.end = serve_in_thread(self.worker, threading.Event())
        self.peer = b""
        while self.receive().kind is not Kind.READY:
            pass

    def receive(self, timeout: int = 5000) -> Frame:
        assert self.socket.poll(timeout), "nothing came"
        self.peer, *parts = self.socket.recv_multipart()
        return Frame.parse(parts)

    def result(self) -> Frame:
        while (frame := self.receive()).kind is not Kind.RESULT:
            pass
        return frame

    def send(self, header: Header, kind: Kind = Kind.JOB) -> None:
        self.socket.send_multipart([self.peer, *Frame(kind, header, encode_body({})).parts()])


def test_a_worker_that_is_stopped_says_that_it_leaves(engine: Any) -> None:
    engine.end()
    while (frame := engine.receive()).kind is not Kind.REGISTER:
        pass
    assert decode_body(frame.body, Registration).leaving


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    calls: list[str] = []
    gate = threading.Event()
    jobs: Handlers[None] = Handlers()

    def ping(service: None, job: Ping) -> str:
        calls.append("ping")
        assert gate.wait(5)
        return "OK"

    def version(service: None, job: SystemVersion) -> dict[str, Any]:
        calls.append("version")
        raise Conflict("not now")

    jobs.handles(Ping)(ping)
    jobs.handles(SystemVersion)(version)
    engine: Any = Engine(f"ipc://{tmp_path}/e", jobs)
    engine.calls, engine.gate = calls, gate
    yield engine
    gate.set()
    engine.end()
    engine.socket.close(0)


def test_what_is_under_way_is_not_begun_again_and_what_is_done_is_answered_again(engine: Any) -> None:
    job_id = new_id()
    engine.send(Header(id=job_id, name="ping"))
    engine.send(Header(id=job_id, name="ping", again=True))
    engine.gate.set()
    first = engine.result()
    engine.send(Header(id=job_id, name="ping", again=True))
    assert engine.result() == first
    assert engine.calls == ["ping"]


def test_what_failed_is_done_again(engine: Any) -> None:
    job_id = new_id()
    engine.send(Header(id=job_id, name="version"))
    assert engine.result().header.status == 1
    engine.send(Header(id=job_id, name="version", again=True))
    assert engine.result().header.status == 1
    assert engine.calls == ["version", "version"]


def test_what_is_cancelled_before_a_thread_was_free_is_not_begun(engine: Any) -> None:
    for _ in range(4):
        engine.send(Header(id=new_id(), name="ping"))
    late = new_id()
    engine.send(Header(id=late, name="version"))
    engine.send(Header(id=late), Kind.CANCEL)
    deadline = time.monotonic() + 5
    while (context := engine.worker._running.get(late)) is None or not context.cancelled.is_set():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    engine.gate.set()
    results = {frame.header.id: frame for frame in (engine.result() for _ in range(5))}
    assert results[late].error().code == "cancelled"
    assert "version" not in engine.calls


def test_patience_counts_from_the_loss_and_anew_after_long_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    patience = Patience(10)
    patience.begin()
    now += 300  # it had worked for a long time
    assert not patience.is_over()
    patience.begin()
    now += 9
    assert not patience.is_over()
    patience.begin()
    now += 2
    assert patience.is_over()
