"""Containers."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
from flask import Blueprint, Response

from services.apiserver import attach as attaching
from services.apiserver import params
from services.apiserver.hangups import client_gone, while_connected
from services.apiserver.jobs import bus, call, read, show
from services.apiserver.spelling import member
from services.apiserver.stream import Client, content_type, flushed, taken_over
from services.apiserver.versions import api_version
from services.apiserver.waiting import Waiting
from shared.bus.client import RETRY_TIME
from shared.protocol import (
    AttachContainer,
    Attachment,
    BindOptions,
    ContainerConfig,
    ContainerLogs,
    CreateContainer,
    HostConfig,
    InspectContainer,
    KillContainer,
    ListContainers,
    LogStream,
    NetworkingConfig,
    PruneContainers,
    RemoveContainer,
    RenameContainer,
    ResizeContainer,
    RestartContainer,
    StartContainer,
    StopContainer,
    Unavailable,
    WaitContainer,
)
from shared.runtime.logs.selection import Selection, selection_of
from shared.runtime.logs.stream import stream_log

routes = Blueprint("containers", __name__, url_prefix="/containers")

RECURSIVE_READ_ONLY = (1, 44)  # the version from which a read-only bind is so all the way down
EMPTY_BODY = 7  # bytes; some clients send "{}" or a newline
NO_BODY = "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
STOP_GRACE = 60.0  # seconds over the container's own time to stop


@routes.get("/json")
def list_containers() -> Response:
    limit = params.integer("limit")
    job = ListContainers(
        all=params.boolean("all"), limit=max(0, limit), size=params.boolean("size"), filters=params.filters()
    )
    return show(read(job))


@routes.post("/create")
def create() -> Response:
    body = params.json_body()
    host_config = params.decode(member(body, "HostConfig") or {}, HostConfig)
    if api_version() < RECURSIVE_READ_ONLY:
        _read_only_at_the_top(host_config)
    networking = member(body, "NetworkingConfig")
    job = CreateContainer(
        name=params.text("name"),
        platform=params.text("platform"),
        config=params.decode(body, ContainerConfig),
        host_config=host_config,
        networking_config=params.decode(networking, NetworkingConfig) if networking else None,
    )
    return show(call(job), 201)


def _read_only_at_the_top(host_config: HostConfig) -> None:
    """Older clients know of no other read-only binds."""
    for mount in host_config.mounts or []:
        if mount.type == "bind" and mount.read_only:
            mount.bind_options = mount.bind_options or BindOptions()
            mount.bind_options.read_only_non_recursive = True


@routes.get("/<ref>/json")
def inspect(ref: str) -> Response:
    return show(read(InspectContainer(container=ref, size=params.boolean("size"))))


@routes.post("/<ref>/start")
def start(ref: str) -> tuple[str, int]:
    params.body(EMPTY_BODY, too_long=NO_BODY)
    call(StartContainer(container=ref))
    return "", 204


@routes.post("/<ref>/stop")
def stop(ref: str) -> tuple[str, int]:
    call(StopContainer(container=ref, timeout=_stop_timeout(), signal=params.text("signal")), timeout=None)
    return "", 204


@routes.post("/<ref>/restart")
def restart(ref: str) -> tuple[str, int]:
    call(RestartContainer(container=ref, timeout=_stop_timeout(), signal=params.text("signal")), timeout=None)
    return "", 204


def _stop_timeout() -> float | None:
    return float(params.integer("t")) if params.text("t") else None


@routes.post("/<ref>/kill")
def kill(ref: str) -> tuple[str, int]:
    call(KillContainer(container=ref, signal=params.text("signal") or "SIGKILL"))
    return "", 204


@routes.delete("/<path:ref>")
def remove(ref: str) -> tuple[str, int]:
    flags = {"force": params.boolean("force"), "volumes": params.boolean("v"), "link": params.boolean("link")}
    call(RemoveContainer(container=ref, **flags))
    return "", 204


@routes.post("/<ref>/rename")
def rename(ref: str) -> tuple[str, int]:
    call(RenameContainer(container=ref, name=params.text("name")))
    return "", 204


@routes.post("/<ref>/resize")
def resize(ref: str) -> tuple[str, int]:
    call(ResizeContainer(container=ref, height=params.integer("h"), width=params.integer("w")))
    return "", 200


@routes.post("/prune")
def prune() -> Response:
    return show(call(PruneContainers(filters=params.filters())))


@routes.post("/<ref>/wait")
def wait(ref: str) -> Response:
    """The head goes out when the wait is in force; errors before that are an HTTP status."""
    waiting = Waiting(bus(), WaitContainer(container=ref, condition=params.text("condition") or "not-running"))
    waiting.begin()

    def body() -> Iterator[bytes]:
        with while_connected() as gone:
            result = waiting.result(gone)
            if result is not None:
                yield msgspec.json.encode(result) + b"\n"

    return flushed(body())


@routes.get("/<ref>/logs")
def logs(ref: str) -> Response:
    job = ContainerLogs(
        container=ref,
        stdout=params.boolean("stdout"),
        stderr=params.boolean("stderr"),
        follow=params.boolean("follow"),
        timestamps=params.boolean("timestamps"),
        details=params.boolean("details"),
        tail=params.tail(),
        since=params.nanoseconds("since"),
        until=params.nanoseconds("until"),
    )
    stream = read(job)
    return flushed(_log_bytes(job, stream), content_type(tty=stream.tty))


def _log_bytes(job: ContainerLogs, stream: LogStream) -> Iterator[bytes]:
    with client_gone() as gone:
        yield from stream_log(bus(), stream, selection_of(job, stream), follow=job.follow, gone=gone)


@routes.post("/<ref>/attach")
def attach(ref: str) -> Response:
    keys = attaching.parse_detach_keys(params.text("detachKeys"))
    job = AttachContainer(
        container=ref,
        stream=params.boolean("stream"),
        logs=params.boolean("logs"),
        stdout=params.boolean("stdout"),
        stderr=params.boolean("stderr"),
    )
    attachment = read(job)
    options = attaching.Options(
        stdin=params.boolean("stdin") and attachment.open_stdin and job.stream,
        stdout=job.stdout,
        stderr=job.stderr,
        tty=attachment.tty,
        detach_keys=keys,
    )
    with taken_over(content_type(tty=attachment.tty)) as client:
        _serve_attachment(client, job, attachment, options)
    return Response(status=200)


def _serve_attachment(client: Client, job: AttachContainer, attachment: Attachment, options: attaching.Options) -> None:
    if attachment.logs is not None:
        selection = Selection(tty=attachment.tty, stdout=job.stdout, stderr=job.stderr)
        for piece in stream_log(bus(), attachment.logs, selection):
            client.socket.sendall(piece)
    if attachment.ticket is None:
        return
    deadline = time.monotonic() + RETRY_TIME
    while True:
        try:
            monitor = attaching.await_monitor(attachment.ticket, client.socket)
            break
        except (Unavailable, ConnectionResetError):  # the execdriver was restarted before the container started
            if time.monotonic() > deadline:
                return
            again = AttachContainer(container=attachment.container, stdout=job.stdout, stderr=job.stderr)
            attachment = read(again)
    if monitor is not None:
        with monitor:
            attaching.relay(client, monitor, options)
