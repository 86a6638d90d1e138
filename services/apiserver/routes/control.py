"""What governs a container that runs: pause, unpause, update, top, stats."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
from flask import Blueprint, Response

from services.apiserver import older, params
from services.apiserver.hangups import while_connected
from services.apiserver.jobs import call, read, show
from services.apiserver.spelling import member
from services.apiserver.stream import flushed
from services.apiserver.versions import api_version
from shared.protocol import (
    Cancelled,
    ContainerStats,
    HostConfig,
    InvalidArgument,
    NotFound,
    PauseContainer,
    RestartPolicy,
    SampleContainer,
    TopContainer,
    UnpauseContainer,
    UpdateContainer,
)

routes = Blueprint("control", __name__, url_prefix="/containers")

SAMPLE_INTERVAL = 1.0  # seconds


class AskedPolicy(RestartPolicy):
    """An empty name asks for nothing."""

    name: str = ""


@routes.post("/<path:ref>/pause")
def pause(ref: str) -> tuple[str, int]:
    call(PauseContainer(container=ref))
    return "", 204


@routes.post("/<path:ref>/unpause")
def unpause(ref: str) -> tuple[str, int]:
    call(UnpauseContainer(container=ref))
    return "", 204


@routes.post("/<path:ref>/update")
def update(ref: str) -> Response:
    """The body is flat: limits as in HostConfig, and a RestartPolicy whose empty name is none."""
    body = params.json_body()
    older.refuse_kernel_memory(body)
    asked, limits = params.decode(member(body, "RestartPolicy"), AskedPolicy), params.decode(body, HostConfig)
    limits.restart_policy = HostConfig().restart_policy
    if api_version() < (1, 40):
        limits.pids_limit = None
    job = UpdateContainer(
        container=ref,
        host_config=limits,
        restart_policy=RestartPolicy(**msgspec.structs.asdict(asked)) if asked.name else None,
    )
    return show(call(job))


@routes.get("/<path:ref>/top")
def top(ref: str) -> Response:
    return show(call(TopContainer(container=ref, ps_args=params.text("ps_args") or "-ef")))


@routes.get("/<path:ref>/stats")
def stats(ref: str) -> Response:
    """A sample a second; with ``stream=0`` one, which takes two to know rates, unless ``one-shot`` is set."""
    stream, one_shot = params.boolean("stream", default=True), params.boolean("one-shot") and api_version() >= (1, 41)
    if stream and one_shot:
        raise InvalidArgument("cannot have stream=true and one-shot=true")
    first = read(SampleContainer(container=ref))
    if stream:
        return flushed(msgspec.json.encode(sample) + b"\n" for sample in _samples(first))
    if not first.is_of_running or one_shot:
        return show(first)
    samples = _samples(first)
    next(samples)
    return show(next(samples, first))


def _samples(sample: ContainerStats) -> Iterator[ContainerStats]:
    """Yield ``sample`` and those that follow, until the container is removed or the client leaves."""
    job, due = SampleContainer(container=sample.id), time.monotonic()
    with while_connected() as gone:
        while True:
            yield sample
            due = max(due + SAMPLE_INTERVAL, time.monotonic())
            if gone.wait(due - time.monotonic()):
                return
            before = sample
            try:
                sample = read(job)
            except (NotFound, Cancelled):
                return
            sample = msgspec.structs.replace(sample, preread=before.read, precpu_stats=before.cpu_stats)
