"""`dockyard job` as a program: what goes to which stream, and the exit status."""

from __future__ import annotations

import io
import json
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.ctl.inject import inject
from services.ctl.streams import Streams
from shared.bus.bus import FakeBus, OnStatus
from shared.bus.tickets import TicketServer
from shared.protocol import (
    AttachContainer,
    Attachment,
    ContainerCreated,
    ContainerExit,
    ContainerLogs,
    CreateContainer,
    Job,
    JobNotFound,
    ListCommands,
    LoadImages,
    LogStream,
    NotFound,
    Output,
    Ping,
    SaveImages,
    StopContainer,
    WaitContainer,
    encode_body,
)


class Program:
    """A run of `dockyard job`: ``stdin`` is what it is given; ``out`` and ``err`` are what it wrote."""

    def __init__(self, stdin: bytes = b"") -> None:
        reader, writer = os.pipe()
        os.write(writer, stdin)
        os.close(writer)
        self.stdin, self.stdout, self.stderr = reader, io.BytesIO(), io.BytesIO()

    def run(self, bus: Any, job: Job[Any], **options: Any) -> int:
        streams = Streams(self.stdin, self.stdout, self.stderr)
        return inject(bus, job, **{"as_json": False, "streams": streams, **options})

    @property
    def out(self) -> bytes:
        return self.stdout.getvalue()

    @property
    def err(self) -> bytes:
        return self.stderr.getvalue()


@pytest.fixture
def program() -> Iterator[Program]:
    made = Program(b"what is typed")
    yield made
    os.close(made.stdin)


@pytest.fixture
def tickets() -> Iterator[TicketServer]:
    with tempfile.TemporaryDirectory(prefix="dy") as directory:  # short: a socket's path has 107 bytes
        yield TicketServer(Path(directory, "tickets"))


@pytest.mark.parametrize(
    ("job", "result", "out"),
    [
        (Ping(), "OK", b"OK\n"),
        (ListCommands(), ["a", "b"], b"a\nb\n"),
        (StopContainer(container="web"), None, b""),
        (WaitContainer(container="web"), ContainerExit(status_code=3), b"3\n"),
        (CreateContainer(), ContainerCreated(id="1f2e", warnings=["swap"]), b"1f2e\n"),
    ],
)
def test_results(program: Program, job: Job[Any], result: Any, out: bytes) -> None:
    name = type(job).__struct_config__.tag
    assert program.run(FakeBus({str(name): result}), job) == 0
    assert program.out == out
    assert program.err == (b"swap\n" if name == "create" else b"")


@pytest.mark.parametrize(("error", "status"), [(NotFound("No such container: x"), 1), (JobNotFound("x: no"), 127)])
def test_the_status_is_the_jobs(program: Program, error: Exception, status: int) -> None:
    bus = FakeBus({"stop": error})
    assert program.run(bus, StopContainer(container="x")) == status
    assert (program.out, program.err) == (b"", f"{error}\n".encode())


def test_errors_and_results_are_json_if_asked(program: Program) -> None:
    assert program.run(FakeBus({"wait": ContainerExit(status_code=3)}), WaitContainer(container="x"), as_json=True) == 0
    assert json.loads(program.out) == {"StatusCode": 3}
    bus = FakeBus({"stop": NotFound("No such container: x")})
    assert program.run(bus, StopContainer(container="x"), as_json=True) == 1
    assert json.loads(program.err) == {"code": "not_found", "message": "No such container: x", "status": 1}


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143)])
def test_an_interrupt_cancels_and_sees_to_it_that_this_arrives(program: Program, stop: BaseException) -> None:
    def interrupted(job: Job[Any]) -> None:
        raise stop

    bus = FakeBus({"wait": interrupted, "ping": "OK"})
    assert program.run(bus, WaitContainer(container="x")) == (130 if isinstance(stop, KeyboardInterrupt) else 143)
    assert bus.calls[-1] == Ping()


class Talking(FakeBus):
    """A bus on which a job says something before it ends."""

    def __init__(self, *said: Output, then: Callable[[], Any] = lambda: None) -> None:
        super().__init__()
        self.said, self.then, self.timeout = said, then, 0.0

    def call(
        self, job: Job[Any], *, timeout: float | None = 60.0, on_status: OnStatus | None = None, patience: float = 0.0
    ) -> Any:
        self.timeout = timeout or 0.0
        for output in self.said:
            assert on_status is not None
            on_status(output)
        return self.then()


def test_what_a_job_says_on_its_way_goes_to_its_stream(program: Program) -> None:
    said = [
        Output(text="one\n"),
        Output(stream="stderr", text="two\n"),
        Output(stream="progress", text='{"stream":"Loaded\\n"}'),
        Output(stream="progress", text='{"status":"Pulling"}'),
        Output(stream="ready", text="id 1"),
    ]
    bus = Talking(*said)
    assert program.run(bus, StopContainer(container="x"), timeout=7.0) == 0
    assert (program.out, program.err) == (b'one\nLoaded\n{"status":"Pulling"}\n', b"two\n")
    assert bus.timeout == 7.0


def test_with_json_stdout_has_the_result_and_nothing_else(program: Program) -> None:
    assert program.run(Talking(Output(text="one\n")), StopContainer(container="x"), as_json=True) == 0
    assert (program.out, program.err) == (b"null\n", b"one\n")


def test_input_is_sent_to_where_the_ticket_points(program: Program, tickets: TicketServer) -> None:
    received, done = bytearray(), threading.Event()

    def receive(connection: socket.socket) -> None:
        while chunk := connection.recv(1024):
            received.extend(chunk)
        done.set()

    ticket = Output(stream="ticket", text=encode_body(tickets.issue(receive)).decode())
    assert program.run(Talking(ticket, then=lambda: done.wait(5) and None), LoadImages()) == 0
    assert received == b"what is typed"


def test_a_job_that_takes_no_more_input_has_the_last_word(tickets: TicketServer) -> None:
    refused = threading.Event()

    def refuse(connection: socket.socket) -> None:
        connection.close()
        refused.set()

    def fail() -> None:
        refused.wait(5)
        raise NotFound("invalid archive")

    program = Program(b"x" * 60_000)
    ticket = Output(stream="ticket", text=encode_body(tickets.issue(refuse)).decode())
    assert program.run(Talking(ticket, then=fail), LoadImages()) == 1
    assert program.err == b"invalid archive\n"
    os.close(program.stdin)


def log_stream(directory: Path, *entries: str, tty: bool = False) -> LogStream:
    """Make the log of a container that has ended."""
    path = directory / "container.log"
    path.write_text("".join(f"2026-11-24T10:58:11.630985409+00:00 {entry}\n" for entry in entries))
    return LogStream(container="1f2e", tty=tty, driver="json-file", path=str(path), generation=1, running=False)


def test_logs_are_demultiplexed(program: Program, tmp_path: Path) -> None:
    bus = FakeBus({"logs": log_stream(tmp_path, "stdout F out", "stderr F err", "stdout P mo", "stdout F re")})
    assert program.run(bus, ContainerLogs(container="x")) == 0
    assert (program.out, program.err) == (b"out\nmore\n", b"err\n")


def test_what_is_wanted_of_a_log_is_chosen_by_the_job(program: Program, tmp_path: Path) -> None:
    bus = FakeBus({"logs": log_stream(tmp_path, "stdout F one", "stderr F err", "stdout F two")})
    assert program.run(bus, ContainerLogs(container="x", stderr=False, tail=1, timestamps=True)) == 0
    assert (program.out, program.err) == (b"2026-11-24T10:58:11.630985409Z two\n", b"")


def test_a_log_is_followed_until_the_exit(program: Program, tmp_path: Path) -> None:
    stream = log_stream(tmp_path, "stdout F begin")

    def wait(job: WaitContainer) -> ContainerExit:
        assert (job.condition, job.generation) == ("next-exit", 1)
        with Path(stream.path).open("a") as log:
            log.write("2026-11-24T10:58:12.630985409+00:00 stdout F end\n")
        return ContainerExit(status_code=0)

    running = msgspec.structs.replace(stream, running=True)
    assert program.run(FakeBus({"logs": running, "wait": wait}), ContainerLogs(container="x", follow=True)) == 0
    assert program.out == b"begin\nend\n"


def test_a_terminals_log_is_raw(program: Program, tmp_path: Path) -> None:
    bus = FakeBus({"logs": log_stream(tmp_path, "stdout F \x1b[1mraw", tty=True)})
    assert program.run(bus, ContainerLogs(container="x")) == 0
    assert program.out == b"\x1b[1mraw\n"


def test_an_archive_is_written_as_it_is_but_not_to_a_terminal(program: Program, tickets: TicketServer) -> None:
    bus = FakeBus({"image_export": tickets.issue(lambda connection: connection.sendall(b"\0tar"))})
    assert program.run(bus, SaveImages(images=["x"])) == 0
    assert program.out == b"\0tar"
    program.stdout.isatty = lambda: True  # type: ignore[method-assign]
    bus.calls.clear()
    assert program.run(bus, SaveImages(images=["x"])) == 1
    assert b"redirect it" in program.err
    assert bus.calls == []


def test_to_attach_shows_earlier_output_then_both_streams_and_sends_stdin(
    program: Program, tickets: TicketServer, tmp_path: Path
) -> None:
    typed = bytearray()

    def monitor(connection: socket.socket) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                socket.send_fds(connection, [b"A"], [theirs.fileno()])
            ours.send(b"\x02out\n")
            ours.send(b"\x03err\n")
            while packet := ours.recv(8192):
                typed.extend(packet)

    attachment = Attachment(
        container="1f2e",
        tty=False,
        open_stdin=True,
        logs=log_stream(tmp_path, "stdout F earlier"),
        ticket=tickets.issue(monitor),
    )
    assert program.run(FakeBus({"attach": attachment}), AttachContainer(container="x")) == 0
    assert (program.out, program.err) == (b"earlier\nout\n", b"err\n")
    assert typed == b"what is typed"


def test_an_execdriver_that_goes_away_is_an_error(program: Program, tickets: TicketServer) -> None:
    gone = tickets.issue(lambda connection: None)
    bus = FakeBus({"attach": Attachment(container="1f2e", tty=False, open_stdin=False, ticket=gone)})
    assert program.run(bus, AttachContainer(container="x")) == 1
    assert program.err == b"the execdriver went away\n"
