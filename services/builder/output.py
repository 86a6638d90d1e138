"""Output: what a build says, to whoever asked for it: Docker's JSON messages, one a line, over a ticket.

It is held up where the other side does not read: what is under way is bounded, however much a step prints.
"""

from __future__ import annotations

import queue
import select
import socket
import threading
import time
from types import TracebackType
from typing import Any

import msgspec

from shared.bus.context import check_cancelled, current, emit
from shared.bus.tickets import TicketServer
from shared.protocol import TICKET_LIFETIME, DockyardError, encode_body

__all__ = ["Output", "StepFailed"]

PENDING = 256  # messages
POLL_INTERVAL = 0.2  # seconds between two looks at whether the build was cancelled
HANGUP_INTERVAL = 1.0  # seconds between two looks at whether anybody still listens to a step that says nothing
RED, PLAIN = "\x1b[91m", "\x1b[0m"  # as Docker's classic builder shows stderr


class StepFailed(DockyardError):
    """A RUN ended with another status than 0. The output has told it already, with the status."""

    def __init__(self, message: str, status_code: int) -> None:
        super().__init__(message)
        self.status_code = status_code


class Output:
    """``quiet``: nothing is said but the image's id; or all that was, if the build fails."""

    def __init__(self, tickets: TicketServer, *, quiet: bool) -> None:
        self._lines: queue.Queue[bytes | None] = queue.Queue(PENDING)
        self._taken, self._done, self._gone = threading.Event(), threading.Event(), False
        self._held: list[dict[str, Any]] | None = [] if quiet else None
        self._context = current.get()
        self._deadline = time.monotonic() + TICKET_LIFETIME
        emit(encode_body(tickets.issue(self._serve)).decode(), stream="output")

    def _serve(self, connection: socket.socket) -> None:
        """Send what is said. Whoever took the ticket and goes away, or dies, has given up the build."""
        self._taken.set()
        try:
            while (line := self._next(connection)) is not None:
                connection.sendall(line)
        except (BrokenPipeError, ConnectionResetError):
            if self._context is not None:
                self._context.cancelled.set()
        finally:
            self._gone = True
            self._done.set()

    def _next(self, connection: socket.socket) -> bytes | None:
        poller = select.poll()
        poller.register(connection, select.POLLRDHUP)
        while True:
            try:
                return self._lines.get(timeout=HANGUP_INTERVAL)
            except queue.Empty:
                if poller.poll(0):
                    raise BrokenPipeError("the other side has gone") from None

    def __enter__(self) -> Output:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Tell of a failure, and wait until all that was said has been taken."""
        if error is not None and self._held is not None:
            held, self._held = self._held, None
            for message in held:
                self.tell(message)
        if isinstance(error, StepFailed):
            self.tell({"errorDetail": {"code": error.status_code, "message": error.message}, "error": error.message})
        self._put(None)
        while not self._done.wait(POLL_INTERVAL) and not self._nobody_came():
            check_cancelled()

    def _nobody_came(self) -> bool:
        return not self._taken.is_set() and time.monotonic() > self._deadline

    def say(self, text: str) -> None:
        self.tell({"stream": text})

    def say_error(self, text: str) -> None:
        self.say(f"{RED}{text}{PLAIN}")

    def result(self, image_id: str) -> None:
        if self._held is not None:
            self._held = None
            self.say(f"{image_id}\n")
        else:
            self.tell({"aux": {"ID": image_id}})

    def tell(self, message: dict[str, Any]) -> None:
        """Say something. Errors: Cancelled."""
        check_cancelled()
        if self._held is not None:
            self._held.append(message)
            return
        self._put(msgspec.json.encode(message) + b"\n")

    def _put(self, line: bytes | None) -> None:
        while not self._gone:
            try:
                self._lines.put(line, timeout=POLL_INTERVAL)
                return
            except queue.Full:
                check_cancelled()
                if self._nobody_came():
                    self._gone = True
