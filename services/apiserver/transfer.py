"""Transfer: bodies on their way between a client and whoever a job's ticket names.

Either way a part is not taken for the whole: what ends too early at one side is broken off at the other.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import IO, Any, TypeVar

import msgspec
from flask import Response, request
from gunicorn.http.errors import ParseException

from services.apiserver.hangups import client_gone, while_connected
from services.apiserver.jobs import bus
from services.apiserver.stream import flushed
from shared.bus.client import RETRY_PAUSE, RETRY_TIME
from shared.bus.context import Context, current
from shared.bus.tickets import deliver, redeem
from shared.protocol import DockyardError, Header, Job, Output, Ticket, Unavailable, job_name

__all__ = ["archive", "progress_stream", "upload"]

R = TypeVar("R")
CHUNK = 1 << 18
UPLOAD_TIMEOUT = 3600.0  # seconds
log = logging.getLogger("dockyard.apiserver")


def archive(make: Callable[[], R], ticket_of: Callable[[R], Ticket]) -> tuple[R, Iterator[bytes]]:
    """Call ``make`` for a ticket, and return what it said with the bytes to come, the first of which are there.

    Whoever makes an archive may die before it began: then ``make`` is called again, for `RETRY_TIME`. Errors: those
    of ``make``, Unavailable; on the way ConnectionResetError.
    """
    deadline, pause = time.monotonic() + RETRY_TIME, RETRY_PAUSE
    while True:
        made = make()
        try:
            return made, _begun(ticket_of(made))
        except (Unavailable, ConnectionResetError) as error:
            if time.monotonic() > deadline:
                raise Unavailable(f"the archive broke off before it began: {error}") from error
            log.info("an archive is asked for again error=%s", error)
        time.sleep(pause)
        pause *= 2


def _begun(ticket: Ticket) -> Iterator[bytes]:
    """Wait for the first bytes: an error before them can still be told."""
    source = redeem(ticket)
    try:
        first = source.recv(CHUNK)
    except BaseException:
        source.close()
        raise

    def chunks() -> Iterator[bytes]:
        with source:
            chunk = first
            while chunk:
                yield chunk
                chunk = source.recv(CHUNK)

    return chunks()


class _Body:
    """A request's body, which one thread sends to a job's ticket (`take`) while another waits for the job."""

    def __init__(self, source: IO[bytes], length: int | None) -> None:
        self._source, self._length = source, length
        self._pump: threading.Thread | None = None

    def take(self, output: Output) -> None:
        ticket = msgspec.json.decode(output.text, type=Ticket)
        self._pump = threading.Thread(target=self._send, args=(ticket,), name="pump", daemon=True)
        self._pump.start()

    def _send(self, ticket: Ticket) -> None:
        try:
            deliver(ticket, self._chunks())
        except (OSError, ParseException, Unavailable) as error:
            log.debug("the body was not taken to its end error=%s", error)

    def _chunks(self) -> Iterator[bytes]:
        come = 0
        while chunk := self._source.read(CHUNK):
            come += len(chunk)
            yield chunk
        if self._length is not None and come < self._length:
            raise ConnectionResetError(f"the client went away after {come} of {self._length} bytes")

    def drain(self) -> None:
        """Read what nobody wanted: a client that is still sending does not look for an answer.

        Errors: ParseException (it is garbled).
        """
        if self._pump is not None:
            self._pump.join()
        try:
            while self._source.read(CHUNK):
                continue
        except OSError as error:
            log.debug("the body was not read to its end error=%s", error)


def upload(job: Job[Any]) -> None:
    """Call a job that takes the request's body. Errors: those of the job."""
    body = _Body(request.stream, request.content_length)

    def on_status(output: Output) -> None:
        if output.stream == "ticket":
            body.take(output)

    with while_connected():
        try:
            bus().call(job, timeout=UPLOAD_TIMEOUT, on_status=on_status)
        finally:
            body.drain()


def progress_stream(
    job: Job[Any],
    *,
    in_band: bool = False,
    last: str = "",
    without: str = "",
    timeout: float | None = UPLOAD_TIMEOUT,
) -> Response:
    """Call a job that takes the request's body and tells of its progress (wire-details §6).

    The head goes out with the first line: some clients (skopeo 1.9) take it for the end, and send no more. Errors come
    in-band after that line, or also as the first if they are to be ``in_band``. ``last``: the member of a last line
    with the job's result. ``without``: the member of those lines that are left out.
    """
    lines = _lines(job, last, timeout)
    first = next(lines, None)
    if first is None:
        return flushed(())
    if isinstance(first, DockyardError) and not in_band:
        collections.deque(lines, maxlen=0)  # they end when the body is read: who still sends looks for no answer
        raise first
    told = itertools.chain([first], lines)
    return flushed(_rendered(line for line in told if not (isinstance(line, dict) and without in line)))


def _lines(job: Job[Any], last: str, timeout: float | None) -> Generator[dict[str, Any] | DockyardError, None, None]:
    lines: queue.SimpleQueue[dict[str, Any] | DockyardError | None] = queue.SimpleQueue()
    sender, body, said = bus(), _Body(request.stream, request.content_length), _Said(lines)

    def on_status(output: Output) -> None:
        if output.stream == "ticket":
            body.take(output)
        elif output.stream == "progress":
            lines.put(msgspec.json.decode(output.text))
        elif output.stream == "output":
            said.take(output)

    def run(gone: threading.Event) -> None:
        current.set(Context(Header(), lambda output: None, cancelled=gone))
        try:
            result = sender.call(job, timeout=timeout, on_status=on_status)
            said.wait()
            if last:
                lines.put({last: result})
        except DockyardError as error:
            said.wait()
            if not said.told_error:
                lines.put(error)
        finally:
            with contextlib.suppress(ParseException):  # who waits for lines is told of the job, not of its body
                body.drain()
            lines.put(None)

    with client_gone() as gone:  # not `while_connected`: a generator must leave nothing behind in its thread's context
        threading.Thread(target=run, args=(gone,), name=job_name(job), daemon=True).start()
        try:
            while (line := lines.get()) is not None:
                yield line
                said.taken()
        finally:
            gone.set()  # who takes no more lines has gone, whoever notices first
            said.close()


class _Said:
    """What a job says over a ticket: one JSON object a line, not more ahead of the client than `AHEAD` of them."""

    AHEAD = 64

    def __init__(self, lines: queue.SimpleQueue[Any]) -> None:
        self._lines, self._room = lines, threading.Semaphore(self.AHEAD)
        self._thread: threading.Thread | None = None
        self._source: socket.socket | None = None
        self._closed = False
        self.told_error = False

    def take(self, output: Output) -> None:
        self._source = redeem(msgspec.json.decode(output.text, type=Ticket))
        self._thread = threading.Thread(target=self._read, args=(self._source,), name="said", daemon=True)
        self._thread.start()

    def _read(self, source: socket.socket) -> None:
        try:
            with source, source.makefile("rb") as file:
                for line in file:
                    self._room.acquire()
                    if self._closed:
                        return
                    message = msgspec.json.decode(line)
                    self.told_error |= "error" in message
                    self._lines.put(message)
        except (OSError, msgspec.DecodeError) as error:
            log.debug("what the job said broke off error=%s", error)

    def taken(self) -> None:
        self._room.release()

    def wait(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Nobody wants any more of it."""
        self._closed = True
        self._room.release()
        if self._source is not None:
            with contextlib.suppress(OSError):
                self._source.shutdown(socket.SHUT_RDWR)


def _rendered(lines: Iterable[dict[str, Any] | DockyardError]) -> Iterator[bytes]:
    for line in lines:
        shown = line if isinstance(line, dict) else {"errorDetail": {"message": line.message}, "error": line.message}
        yield msgspec.json.encode(shown) + b"\r\n"
