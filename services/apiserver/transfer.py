"""Transfer: archives on their way in and out, between a client and whoever a job's ticket names."""

from __future__ import annotations

import contextvars
import logging
import queue
import socket
import threading
from collections.abc import Iterator
from typing import IO

import msgspec
from flask import Response, request
from gunicorn.http.errors import ParseException

from services.apiserver.hangups import while_connected
from services.apiserver.jobs import bus, call
from services.apiserver.stream import flushed, received
from shared.bus.bus import Bus
from shared.bus.tickets import redeem
from shared.protocol import DockyardError, LoadImages, Output, SaveImages, Ticket

__all__ = ["load", "save"]

CHUNK = 1 << 18  # bytes
LOAD_TIMEOUT = 3600.0  # seconds
TAR_END = bytes(1024)  # two blocks of zeros (POSIX 1003.1 pax, "ustar Interchange Format")
log = logging.getLogger("dockyard.apiserver")


class TruncatedError(Exception):
    """What was to be sent ended too early; the connection is broken off, so that the client knows."""


def load(job: LoadImages) -> Response:
    """Feed the request's body to a load, and answer with its progress; errors too come in-band (wire-details §6)."""
    return flushed(_Load(bus(), job, request.stream).lines())


class _Load:
    """The job runs in one thread, the upload in another, and the request's own writes the answer."""

    def __init__(self, sender: Bus, job: LoadImages, body: IO[bytes]) -> None:
        self._bus, self._job, self._body = sender, job, body
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._upload: threading.Thread | None = None

    def lines(self) -> Iterator[bytes]:
        with while_connected():
            run = contextvars.copy_context().run
            threading.Thread(target=run, args=(self._run,), name="load", daemon=True).start()
            while (line := self._lines.get()) is not None:
                yield line
            if self._upload is not None:
                self._upload.join()  # gunicorn reads the next request from the same connection

    def _run(self) -> None:
        try:
            self._bus.call(self._job, timeout=LOAD_TIMEOUT, on_status=self._note)
        except DockyardError as error:
            message = {"errorDetail": {"message": error.message}, "error": error.message}
            self._lines.put(msgspec.json.encode(message) + b"\r\n")
        finally:
            self._lines.put(None)

    def _note(self, output: Output) -> None:
        if output.stream == "ticket":
            ticket = msgspec.json.decode(output.text, type=Ticket)
            self._upload = threading.Thread(target=self._pump, args=(ticket,), name="upload", daemon=True)
            self._upload.start()
        elif output.stream == "progress":
            self._lines.put(output.text.encode() + b"\r\n")

    def _pump(self, ticket: Ticket) -> None:
        """Send the body on; what nobody takes is read all the same: clients send everything before they listen."""
        try:
            with redeem(ticket) as target:
                while chunk := self._body.read(CHUNK):
                    target.sendall(chunk)
                target.shutdown(socket.SHUT_WR)
        except (OSError, DockyardError, ParseException) as error:
            log.info("upload not taken to its end error=%s", error)
        try:
            while self._body.read(CHUNK):
                continue
        except (OSError, ParseException) as error:
            log.info("upload broken off error=%s", error)


def save(images: list[str]) -> Response:
    """Answer with an archive of images."""
    source = redeem(call(SaveImages(images=images)))
    response = flushed(_whole_archive(source), "application/x-tar")
    response.call_on_close(source.close)
    return response


def _whole_archive(source: socket.socket) -> Iterator[bytes]:
    """Pass a tar on. An exporter that dies just closes its end: only the tar says whether it is complete."""
    end = b""
    for chunk in received(source):
        yield chunk
        end = (end + chunk)[-len(TAR_END) :]
    if end != TAR_END:
        raise TruncatedError("the archive ends too early")
