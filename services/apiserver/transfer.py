"""Transfer: a request's body on its way to whoever a job's ticket names, while the job's progress comes back."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Iterator
from typing import IO

import msgspec
from flask import Response, request

from services.apiserver import params
from services.apiserver.hangups import while_connected
from services.apiserver.jobs import bus
from services.apiserver.stream import flushed
from shared.bus.tickets import redeem
from shared.protocol import DockyardError, LoadImages, Output, Ticket

__all__ = ["load_stream"]

CHUNK = 1 << 18
LOAD_TIMEOUT = 3600.0  # seconds


def load_stream() -> Response:
    """`load`: errors come in-band, as the API has them (wire-details §6)."""
    return flushed(_load(LoadImages(quiet=params.boolean("quiet", default=True)), request.stream))


def _load(job: LoadImages, body: IO[bytes]) -> Iterator[bytes]:
    lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    sender = bus()

    def on_status(output: Output) -> None:
        if output.stream == "ticket":
            ticket = msgspec.json.decode(output.text, type=Ticket)
            threading.Thread(target=_pump, args=(body, ticket), name="pump", daemon=True).start()
        elif output.stream == "progress":
            lines.put(output.text.encode() + b"\r\n")

    def run() -> None:
        try:
            sender.call(job, timeout=LOAD_TIMEOUT, on_status=on_status)
        except DockyardError as error:
            message = {"errorDetail": {"message": error.message}, "error": error.message}
            lines.put(msgspec.json.encode(message) + b"\r\n")
        finally:
            lines.put(None)

    with while_connected():
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(run,), name="load", daemon=True).start()
        while (line := lines.get()) is not None:
            yield line


def _pump(body: IO[bytes], ticket: Ticket) -> None:
    with redeem(ticket) as target:
        while chunk := body.read(CHUNK):
            target.sendall(chunk)
