"""Containers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from flask import Blueprint, Response

from services.apiserver import older, params
from services.apiserver.hangups import client_gone, while_connected
from services.apiserver.jobs import MEASURE_TIMEOUT, bus, call, read, show
from services.apiserver.omitting import without_empty
from services.apiserver.spelling import member
from services.apiserver.stream import content_type, flushed
from services.apiserver.versions import api_version
from services.apiserver.waiting import Waiting
from shared.protocol import (
    Conflict,
    ContainerConfig,
    ContainerLogs,
    CreateContainer,
    HostConfig,
    InspectContainer,
    InvalidArgument,
    Job,
    KillContainer,
    ListContainers,
    LogStream,
    NetworkingConfig,
    NotFound,
    PruneContainers,
    RemoveContainer,
    RenameContainer,
    ResizeContainer,
    RestartContainer,
    StartContainer,
    StopContainer,
    WaitContainer,
)
from shared.runtime.logs.selection import selection_of
from shared.runtime.logs.stream import stream_log

routes = Blueprint("containers", __name__, url_prefix="/containers")

EMPTY_BODY = 7  # bytes; some clients send "{}" or a newline
NO_BODY = "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
BESIDE_CONFIG = {"hostconfig", "networkingconfig"}  # of a body to create a container
STOP_GRACE = 60.0  # seconds over the container's own time to stop


@routes.get("/json")
def list_containers() -> Response:
    limit = params.integer("limit")
    job = ListContainers(
        all=params.boolean("all"), limit=max(0, limit), size=params.boolean("size"), filters=params.filters()
    )
    return show(older.show_summaries(_measured(job, job.size)))


def _measured(job: Job[Any], size: bool) -> Any:
    """Read from the records, or have the graphdriver measure for as long as that takes, and the client is there."""
    if not size:
        return read(job)
    with while_connected():
        return call(job, timeout=MEASURE_TIMEOUT)


@routes.post("/create")
def create() -> Response:
    body = params.json_body()
    if not {name.lower() for name in body} - BESIDE_CONFIG:
        raise InvalidArgument("config cannot be empty in order to create a container")
    older.refuse_kernel_memory(member(body, "HostConfig"))
    job = CreateContainer(
        name=params.text("name"),
        platform=params.text("platform") if api_version() >= (1, 41) else "",
        config=params.decode(_listed(body, "Shell"), ContainerConfig),
        host_config=params.decode(_listed(member(body, "HostConfig"), "CapAdd", "CapDrop"), HostConfig),
        networking_config=_networking(body),
        read_only_non_recursive=api_version() < (1, 44),
    )
    if isinstance(runtime := member(body, "Runtime"), str):  # docker-py says it beside HostConfig
        job.host_config.runtime = job.host_config.runtime or runtime
    older.creating(job)
    made = call(job)
    made.warnings += older.warnings(job)
    return show(made, 201)


def _listed(given: Any, *names: str) -> Any:
    """Return an object with lists for the words that stand alone, which moby's ``StrSlice`` takes for lists of one."""
    if not isinstance(given, dict):
        return given
    alone = {name: [word] for name in names if isinstance(word := member(given, name), str)}
    return {**given, **alone}


def _networking(body: dict[str, Any]) -> NetworkingConfig | None:
    """Return what is asked of networks; one with null for settings counts."""
    networking = member(body, "NetworkingConfig")
    given = member(networking, "EndpointsConfig") if isinstance(networking, dict) else None
    if not isinstance(given, dict):
        return None if networking is None else params.decode(networking, NetworkingConfig)
    settings = {name: {} if value is None else value for name, value in given.items()}
    return params.decode({"EndpointsConfig": settings}, NetworkingConfig)


@routes.get("/<path:ref>/json")
def inspect(ref: str) -> Response:
    job = InspectContainer(container=ref, size=params.boolean("size"))
    return show(without_empty(older.show_container(_measured(job, job.size))))


@routes.post("/<path:ref>/start")
def start(ref: str) -> tuple[str, int]:
    params.body(EMPTY_BODY, too_long=NO_BODY)
    call(StartContainer(container=ref))
    return "", 204


@routes.post("/<path:ref>/stop")
def stop(ref: str) -> tuple[str, int]:
    call(StopContainer(container=ref, timeout=_stop_timeout(), signal=_stop_signal()), timeout=None)
    return "", 204


@routes.post("/<path:ref>/restart")
def restart(ref: str) -> tuple[str, int]:
    call(RestartContainer(container=ref, timeout=_stop_timeout(), signal=_stop_signal()), timeout=None)
    return "", 204


def _stop_timeout() -> float | None:
    return float(params.integer("t")) if params.text("t") else None


def _stop_signal() -> str:
    """Before API 1.42 it was the container's own."""
    return params.text("signal") if api_version() >= (1, 42) else ""


@routes.post("/<path:ref>/kill")
def kill(ref: str) -> tuple[str, int]:
    try:
        call(KillContainer(container=ref, signal=params.text("signal") or "SIGKILL"))
    except (NotFound, Conflict, InvalidArgument) as error:
        raise type(error)(f"cannot kill container: {ref}: {error.message}") from None
    return "", 204


@routes.delete("/<path:ref>")
def remove(ref: str) -> tuple[str, int]:
    flags = {"force": params.boolean("force"), "volumes": params.boolean("v"), "link": params.boolean("link")}
    call(RemoveContainer(container=ref, **flags))
    return "", 204


@routes.post("/<path:ref>/rename")
def rename(ref: str) -> tuple[str, int]:
    call(RenameContainer(container=ref, name=params.text("name")))
    return "", 204


@routes.post("/<path:ref>/resize")
def resize(ref: str) -> tuple[str, int]:
    call(ResizeContainer(container=ref, height=params.required_integer("h"), width=params.required_integer("w")))
    return "", 200


@routes.post("/prune")
def prune() -> Response:
    return show(call(PruneContainers(filters=params.filters())))


@routes.post("/<path:ref>/wait")
def wait(ref: str) -> Response:
    """The head goes out when the wait is in force; errors before that are an HTTP status. Conditions: since 1.30."""
    condition = params.text("condition") if api_version() >= (1, 30) else ""
    waiting = Waiting(bus(), WaitContainer(container=ref, condition=condition or "not-running"))
    waiting.begin()

    def body() -> Iterator[bytes]:
        with while_connected() as gone:
            result = waiting.result(gone)
            if result is not None:
                yield msgspec.json.encode(result) + b"\n"

    return flushed(body())


@routes.get("/<path:ref>/logs")
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
