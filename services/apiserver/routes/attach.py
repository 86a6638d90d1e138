"""Attach to containers: over a connection that HTTP has left, or by WebSocket."""

from __future__ import annotations

import time

from flask import Blueprint, Response, current_app, request

from services.apiserver import attach as attaching
from services.apiserver import params
from services.apiserver.jobs import bus, call, read
from services.apiserver.stream import Client, content_type, taken_over
from services.apiserver.versions import api_version
from services.apiserver.websocket import accept, bridged
from shared.bus.client import RETRY_TIME
from shared.protocol import AttachContainer, Attachment, NoteDetach, Unavailable
from shared.runtime.logs.selection import Selection
from shared.runtime.logs.stream import stream_log

routes = Blueprint("attach", __name__, url_prefix="/containers")


@routes.post("/<path:ref>/attach")
def attach(ref: str) -> Response:
    keys = attaching.parse_detach_keys(params.text("detachKeys"))
    job = _job(ref, stdout=params.boolean("stdout"), stderr=params.boolean("stderr"))
    attachment = read(job)
    options = attaching.Options(
        stdin=params.boolean("stdin") and attachment.open_stdin and job.stream,
        stdout=job.stdout,
        stderr=job.stderr,
        tty=attachment.tty,
        detach_keys=keys,
    )
    with taken_over(content_type(tty=attachment.tty)) as client:
        _serve(client, job, attachment, options)
    return Response(status=200)


@routes.get("/<path:ref>/attach/ws")  # asked for without an upgrade, to say so
@routes.get("/<path:ref>/attach/ws", websocket=True)
def attach_by_websocket(ref: str) -> Response:
    """Output is never multiplexed. Before API 1.42 all streams were meant, before 1.28 in text messages."""
    token = accept(dict(request.headers), current_app.extensions["dockyard.origins"])
    keys = attaching.parse_detach_keys(params.text("detachKeys"))
    chooses = api_version() >= (1, 42)
    stdin, stdout, stderr = (not chooses or params.boolean(name) for name in ("stdin", "stdout", "stderr"))
    job = _job(ref, stdout=stdout, stderr=stderr)
    attachment = read(job)
    options = attaching.Options(
        stdin=stdin and attachment.open_stdin and job.stream,
        stdout=stdout,
        stderr=stderr,
        tty=attachment.tty,
        detach_keys=keys,
        multiplexed=False,
    )
    with bridged(token, text=api_version() < (1, 28)) as client:
        _serve(client, job, attachment, options)
    return Response(status=200)


def _job(ref: str, *, stdout: bool, stderr: bool) -> AttachContainer:
    return AttachContainer(
        container=ref, stream=params.boolean("stream"), logs=params.boolean("logs"), stdout=stdout, stderr=stderr
    )


def _serve(client: Client, job: AttachContainer, attachment: Attachment, options: attaching.Options) -> None:
    if attachment.logs is not None:
        selection = Selection(tty=attachment.tty, stdout=job.stdout, stderr=job.stderr)
        pieces = stream_log(bus(), attachment.logs, selection)
        for piece in pieces if options.tty or options.multiplexed else attaching.unframed(pieces):
            client.socket.sendall(piece)
    if attachment.ticket is None or not (options.stdin or options.stdout or options.stderr):
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
            end = attaching.relay(client, monitor, options)
        if end is attaching.End.DETACHED:
            call(NoteDetach(container=attachment.container))
