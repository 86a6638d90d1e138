"""Transfer: a long job with progress, and a request's body on its way to whoever the job's ticket names."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO, Any

import msgspec
from flask import Response

from services.apiserver.hangups import client_gone
from services.apiserver.jobs import bus
from services.apiserver.stream import flushed
from shared.bus.bus import Bus
from shared.bus.context import Context, current
from shared.bus.tickets import redeem
from shared.protocol import DockyardError, Header, Job, Output, Ticket

__all__ = ["progress_stream"]

CHUNK = 1 << 18
TIMEOUT = 4 * 3600.0  # seconds

Lines = queue.SimpleQueue[bytes | DockyardError | None]  # None: the end


def progress_stream(job: Job[Any], body: IO[bytes] | None = None, *, errors_in_band: bool = False) -> Response:
    """Run ``job`` and answer with its progress, a line of JSON each (wire-details §6); a hang-up cancels it.

    An error before the first line is an HTTP status, unless all ``errors_in_band``; a later one is a line.
    """
    with ExitStack() as watching:
        gone = watching.enter_context(client_gone())
        lines: Lines = queue.SimpleQueue()
        arguments = (bus(), job, body, lines, gone)
        threading.Thread(target=_run, args=arguments, name="transfer", daemon=True).start()
        first = None if errors_in_band else [lines.get()]
        if first and isinstance(first[0], DockyardError):
            raise first[0]
        return flushed(_shown(first or [], lines, watching.pop_all()))


def _shown(first: list[Any], lines: Lines, watching: ExitStack) -> Iterator[bytes]:
    with watching:
        line = first[0] if first else lines.get()
        while line is not None:
            if isinstance(line, DockyardError):
                line = msgspec.json.encode({"errorDetail": {"message": line.message}, "error": line.message})
            yield line + b"\r\n"
            line = lines.get()


def _run(sender: Bus, job: Job[Any], body: IO[bytes] | None, lines: Lines, gone: threading.Event) -> None:
    def on_status(output: Output) -> None:
        if output.stream == "ticket" and body is not None:
            ticket = msgspec.json.decode(output.text, type=Ticket)
            threading.Thread(target=_pump, args=(body, ticket), name="pump", daemon=True).start()
        elif output.stream == "progress":
            lines.put(output.text.encode())

    current.set(Context(Header(), lambda output: None, cancelled=gone))
    try:
        sender.call(job, timeout=TIMEOUT, on_status=on_status)
    except DockyardError as error:
        lines.put(error)
    finally:
        lines.put(None)


def _pump(body: IO[bytes], ticket: Ticket) -> None:
    with redeem(ticket) as target:
        while chunk := body.read(CHUNK):
            target.sendall(chunk)
