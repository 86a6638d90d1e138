"""Execs: commands inside running containers."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import ExitStack

import msgspec
from flask import Blueprint, Response

from services.apiserver import attach as attaching
from services.apiserver import params
from services.apiserver.jobs import call, read, show
from services.apiserver.stream import Client, content_type, taken_over
from services.apiserver.versions import api_version
from shared.bus.tickets import redeem_descriptor
from shared.protocol import (
    Conflict,
    CreateExec,
    DockyardError,
    ExecConfig,
    InspectExec,
    NoteExecDetach,
    NotFound,
    Output,
    ResizeExec,
    StartExec,
    Ticket,
    Unavailable,
    WaitExec,
)
from shared.protocol.exec import ConsoleSize
from shared.protocol.job import Record

routes = Blueprint("exec", __name__)
log = logging.getLogger("dockyard.apiserver")

END_TIMEOUT = 10.0  # seconds that the record of an end may lag behind the end of the output


class Start(Record):
    """API 1.51 ExecStartConfig."""

    detach: bool = False
    tty: bool = False
    console_size: ConsoleSize | None = None


class Session:
    """The two connections of a session: the client's, and the monitor's as the execdriver hands it over.

    The client's is taken over, and its head sent, before the process runs: output never overtakes the head.
    """

    def __init__(self, take_over: Callable[[], Client]) -> None:
        self._take_over = take_over
        self.client: Client | None = None
        self.monitor: socket.socket | None = None

    def note(self, output: Output) -> None:
        if output.stream == "session":
            self.begin()
            self.close()
            self.monitor = redeem_descriptor(msgspec.json.decode(output.text, type=Ticket))

    def begin(self) -> Client:
        self.client = self.client or self._take_over()
        return self.client

    def close(self) -> None:
        if self.monitor is not None:
            self.monitor.close()
            self.monitor = None


@routes.post("/containers/<path:ref>/exec")
def create(ref: str) -> Response:
    config = params.decode(params.json_body(), ExecConfig)
    attaching.parse_detach_keys(config.detach_keys)
    if api_version() < (1, 42):
        config.console_size = None
    return show(call(CreateExec(container=ref, config=config)), 201)


@routes.post("/exec/<exec_id>/start")
def start(exec_id: str) -> Response:
    """Errors before the process is tried are an HTTP status; that it cannot run is said in the stream."""
    asked = params.decode(params.json_body(), Start)
    size = asked.console_size if asked.tty and api_version() >= (1, 42) else None
    job = StartExec(exec=exec_id, detach=asked.detach, console_size=size)
    if asked.detach:
        call(job)
        return Response(status=200)
    with ExitStack() as connections:
        session = Session(lambda: connections.enter_context(taken_over(content_type(tty=asked.tty))))
        connections.callback(session.close)
        _attach(job, session, tty=asked.tty)
    return Response(status=200)


def _attach(job: StartExec, session: Session, *, tty: bool) -> None:
    try:
        started = call(job, on_status=session.note)
    except DockyardError as error:
        if session.client is None and isinstance(error, Conflict | NotFound | Unavailable):
            raise
        text = f"{error.message}\r\n".encode()
        session.begin().socket.sendall(text if tty else attaching.frame(attaching.STDOUT, text))
        return
    options = attaching.Options(
        stdin=started.stdin,
        stdout=started.stdout,
        stderr=started.stderr,
        tty=tty,
        detach_keys=attaching.parse_detach_keys(started.detach_keys),
    )
    client = session.begin()
    if session.monitor is None:
        return
    end = attaching.relay(client, session.monitor, options)
    if end is attaching.End.EXIT:
        _await_end(job.exec)
    elif end is attaching.End.DETACHED:
        call(NoteExecDetach(exec=job.exec))


def _await_end(exec_id: str) -> None:
    """Clients ask for the exit code as soon as the stream has closed: it must be on record by then."""
    try:
        read(WaitExec(exec=exec_id), timeout=END_TIMEOUT)
    except DockyardError as error:
        log.warning("the end of an exec is not on record exec=%s error=%s", exec_id, error)


@routes.post("/exec/<exec_id>/resize")
def resize(exec_id: str) -> tuple[str, int]:
    call(ResizeExec(exec=exec_id, height=params.required_integer("h"), width=params.required_integer("w")))
    return "", 200


@routes.get("/exec/<exec_id>/json")
def inspect(exec_id: str) -> Response:
    return show(read(InspectExec(exec=exec_id)))
