"""Streams: stdin, stdout and stderr of `dockyard job`, and how a job's bytes get to them and from them."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from shared.bus.tickets import deliver, receive_descriptor, redeem, redeem_descriptor
from shared.protocol import Attachment, InvalidArgument, LogStream, PathArchive, Ticket, Unavailable

__all__ = ["Streams", "has_stream"]

CHUNK = 1 << 18
PACKET, STDIN_PACKET = 65536, 8192  # bytes; what a monitor sends and takes at once (`RuntimeAttach`)
FRAME = struct.Struct(">BxxxL")  # stream, length: Docker's multiplexing
STDERR_FRAME, STDERR_PACKET = 2, 3


def has_stream(result: Any) -> bool:
    """Say whether a result is the way to a stream, and not what was asked for itself."""
    return isinstance(result, Ticket | PathArchive | LogStream | Attachment)


@dataclass(frozen=True)
class Streams:
    """``stdin`` is a descriptor: a thread that is blocked in it must hold no lock when the process ends."""

    stdin: int = 0
    stdout: BinaryIO = field(default_factory=lambda: sys.stdout.buffer)
    stderr: BinaryIO = field(default_factory=lambda: sys.stderr.buffer)
    sessions: list[threading.Thread] = field(default_factory=list)

    def out(self, data: bytes | str) -> None:
        _write(self.stdout, data)

    def err(self, data: bytes | str) -> None:
        _write(self.stderr, data)

    def refuse_terminal(self) -> None:
        """Errors: InvalidArgument (stdout is a terminal, and an archive would go there)."""
        if self.stdout.isatty():
            raise InvalidArgument("this job's output is an archive: redirect it, as in `dockyard job … > archive.tar`")

    def send(self, ticket: Ticket) -> None:
        """Send stdin to where a ticket points, from a thread. Errors: InvalidArgument (stdin is a terminal)."""
        if os.isatty(self.stdin):
            raise InvalidArgument("this job's input is an archive: redirect it, as in `dockyard job … < archive.tar`")

        def send() -> None:  # a receiver that takes no more says why in the job's status
            with contextlib.suppress(OSError, Unavailable):
                deliver(ticket, iter(lambda: os.read(self.stdin, CHUNK), b""))

        threading.Thread(target=send, name="stdin", daemon=True).start()

    def receive(self, result: Any, read_log: Callable[[LogStream], Iterator[bytes]]) -> None:
        """Write what a result leads to, to its end; ``read_log`` reads a log in Docker's frames."""
        if isinstance(result, Ticket | PathArchive):
            self._copy(result if isinstance(result, Ticket) else result.ticket)
        elif isinstance(result, LogStream):
            self._show_log(read_log(result), tty=result.tty)
        elif isinstance(result, Attachment):
            if result.logs is not None:
                self._show_log(read_log(result.logs), tty=result.tty)
            if result.ticket is not None:
                self._attach(result.ticket, stdin=result.open_stdin)

    def _pump(self, send: Callable[[bytes], object], size: int) -> None:
        """Send stdin until its end; a receiver that takes no more says why in the job's status."""
        with contextlib.suppress(OSError):  # of the receiver; or of stdin, which may be closed any time
            while chunk := os.read(self.stdin, size):
                send(chunk)

    def _copy(self, ticket: Ticket) -> None:
        with redeem(ticket) as connection:
            while chunk := connection.recv(CHUNK):
                self.out(chunk)

    def _show_log(self, pieces: Iterator[bytes], *, tty: bool) -> None:
        """Write Docker's frames, each to its stream; a terminal has none. A piece is whole frames."""
        for piece in pieces:
            if tty:
                self.out(piece)
                continue
            at = 0
            while at < len(piece):
                stream, length = FRAME.unpack_from(piece, at)
                at += FRAME.size
                (self.err if stream == STDERR_FRAME else self.out)(piece[at : at + length])
                at += length

    def begin_session(self, ticket: Ticket) -> None:
        """Be an exec's terminal, from a thread; `end_sessions` waits for it. Errors: Unavailable."""
        monitor = redeem_descriptor(ticket)
        thread = threading.Thread(
            target=self._converse, args=(monitor,), kwargs={"stdin": True}, name="session", daemon=True
        )
        thread.start()
        self.sessions.append(thread)

    def begin_output(self, ticket: Ticket, show: Callable[[str], None]) -> None:
        """Read lines of JSON from a thread, ``show`` each; `end_sessions` waits for the last. Errors: Unavailable."""
        source = redeem(ticket)

        def read() -> None:
            with source, source.makefile("r", encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    show(line)

        self.sessions.append(threading.Thread(target=read, name="output", daemon=True))
        self.sessions[-1].start()

    def end_sessions(self) -> None:
        for session in self.sessions:
            session.join()

    def _attach(self, ticket: Ticket, *, stdin: bool) -> None:
        """Be the container's terminal until it ends, or its monitor does."""
        with redeem(ticket) as connection:
            try:
                monitor = receive_descriptor(connection)
            except ConnectionResetError as error:
                raise Unavailable("the execdriver went away") from error
        self._converse(monitor, stdin=stdin)

    def _converse(self, monitor: socket.socket, *, stdin: bool) -> None:
        with monitor:
            if stdin:
                threading.Thread(target=self._feed, args=(monitor,), name="stdin", daemon=True).start()
            while packet := _packet(monitor):
                (self.err if packet[0] == STDERR_PACKET else self.out)(packet[1:])

    def _feed(self, monitor: socket.socket) -> None:
        try:
            self._pump(monitor.send, STDIN_PACKET)
            monitor.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the container is quicker


def _packet(monitor: socket.socket) -> bytes:
    """Return the next packet; none if the monitor has closed."""
    while True:
        try:
            return monitor.recv(PACKET)
        except ConnectionResetError:
            continue  # it has closed with input unread; what it said before that is still to be read


def _write(stream: BinaryIO, data: bytes | str) -> None:
    stream.write(data.encode() if isinstance(data, str) else data)
    stream.flush()
