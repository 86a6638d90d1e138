"""Attach: between a client's connection and the monitor of a container (`RuntimeAttach` tells the monitor's side).

The monitor's socket gives packets: a stream byte (2 stdout, 3 stderr) and data. The client gets Docker's frames, or
raw bytes if there is a terminal. What the client sends is stdin; its half-close is stdin's end.
"""

from __future__ import annotations

import enum
import logging
import mmap
import re
import select
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from services.apiserver.stream import Client
from shared.bus.tickets import receive_descriptor, redeem
from shared.protocol import InvalidArgument, Ticket

__all__ = ["STDOUT", "End", "Options", "await_monitor", "frame", "parse_detach_keys", "relay", "unframed"]

log = logging.getLogger("dockyard.apiserver")

STDOUT, STDERR = 2, 3  # as the monitor numbers them
PACKET = 32768  # bytes, more than the monitor ever sends at once (conmon: 8193)
BATCH = 262144  # bytes that are passed on together
STDIN_CHUNK = 8192
HEADER = struct.Struct(">BxxxL")  # of a frame: stream, length
DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"
CONTROL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


@dataclass(frozen=True)
class Options:
    """``multiplexed``: without a terminal, in Docker's frames."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool
    detach_keys: bytes
    multiplexed: bool = True


def parse_detach_keys(text: str) -> bytes:
    """Parse ``ctrl-p,ctrl-q`` or single characters. Errors: InvalidArgument."""
    keys = bytearray()
    for word in (text or DEFAULT_DETACH_KEYS).split(","):
        match = re.fullmatch(r"ctrl-([a-z@\[\\\]^_])", word)
        if match:
            keys.append(CONTROL[match[1]] if match[1] in CONTROL else ord(match[1]) - ord("a") + 1)
        elif len(word) == 1 and word.isascii():
            keys.append(ord(word))
        else:
            raise InvalidArgument(f"Invalid detach keys ({text}) provided")
    return bytes(keys)


def await_monitor(ticket: Ticket, client: socket.socket) -> socket.socket | None:
    """Redeem an attach ticket; None if the client left first. Errors: Unavailable (the execdriver went away)."""
    connection = redeem(ticket)
    with connection:
        poller = select.poll()
        poller.register(connection, select.POLLIN)
        poller.register(client, select.POLLHUP)
        while True:
            ready = {descriptor for descriptor, _ in poller.poll()}
            if connection.fileno() in ready:
                return receive_descriptor(connection)
            return None


def unframed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what is inside frames that come in any pieces."""
    held, left = b"", 0
    for piece in pieces:
        held += piece
        while held:
            if not left:
                if len(held) < HEADER.size:
                    break
                left, held = HEADER.unpack_from(held)[1], held[HEADER.size :]
            yield held[:left]
            held, left = held[left:], left - len(held[:left])


class End(enum.Enum):
    """How an attachment ends."""

    EXIT = "the monitor has closed"
    DETACHED = "the client typed the keys"
    GONE = "the client went away"


def relay(client: Client, monitor: socket.socket, options: Options) -> End:
    """Copy both ways until the monitor closes, or the client detaches or goes.

    Input that the monitor does not take yet is held, and no more is read meanwhile: output goes on, since the monitor
    may take input only when it has got rid of output.
    """
    stdin, output, taking = _Stdin(monitor, options), _Output(monitor, client.socket, options), options.stdin
    if taking and stdin.feed(client.read_ahead):
        return End.DETACHED
    poller = select.poll()
    while True:
        poller.register(monitor, select.POLLIN | (select.POLLOUT if stdin.pending else 0))
        poller.register(client.socket, select.POLLIN if taking and not stdin.pending else 0)
        for descriptor, event in poller.poll():
            if descriptor == monitor.fileno():
                if event & select.POLLOUT:
                    stdin.flush()
                if event & ~select.POLLOUT and not output.forward():
                    return End.EXIT
            elif not event & select.POLLIN:
                return End.GONE
            elif data := _receive(client.socket):
                if stdin.feed(data):
                    return End.DETACHED
            else:
                stdin.end()
                taking = False


def _receive(client: socket.socket) -> bytes:
    try:
        return client.recv(BATCH)
    except ConnectionResetError:
        return b""


def frame(stream: int, data: bytes) -> bytes:
    """Return Docker's frame of a piece of output; ``stream`` as the monitor numbers it."""
    return HEADER.pack(stream - 1, len(data)) + data


class _Output:
    """What the container says: all packets that are there go on in one write, those of a stream in one frame."""

    def __init__(self, monitor: socket.socket, client: socket.socket, options: Options) -> None:
        self._monitor, self._client = monitor, client
        self._framed = options.multiplexed and not options.tty
        self._wanted = {STDOUT: options.stdout, STDERR: options.stdout if options.tty else options.stderr}
        self._buffer, self._stream = (
            memoryview(mmap.mmap(-1, BATCH)),
            bytearray(1),
        )  # costs nothing until it is used

    def forward(self) -> bool:
        """Pass on what is there, and there is something; False when the monitor has closed."""
        end, frames = 0, list[tuple[int, int]]()  # (stream, where it ends)
        closed = False
        while end <= BATCH - PACKET:
            try:
                size = self._monitor.recvmsg_into([self._stream, self._buffer[end:]], 0, socket.MSG_DONTWAIT)[0]
            except BlockingIOError:
                break
            except ConnectionResetError:
                continue  # it has closed with input unread; what it said before that is still to be read
            if not size:
                closed = True
                break
            (stream,) = self._stream
            if self._wanted.get(stream):
                end += size - 1
                if frames and frames[-1][0] == stream:
                    frames.pop()
                frames.append((stream, end))
        self._send(frames)
        return not closed

    def _send(self, frames: list[tuple[int, int]]) -> None:
        start = 0
        for stream, end in frames:
            head = HEADER.pack(stream - 1, end - start) if self._framed else b""
            self._client.sendall(b"".join((head, self._buffer[start:end])))
            start = end


class _Stdin:
    """What the client types, and among it the keys that detach (with a terminal)."""

    def __init__(self, monitor: socket.socket, options: Options) -> None:
        self._monitor = monitor
        self._keys = options.detach_keys if options.tty else b""
        self._held = b""  # a beginning of the keys, not sent yet
        self._ended = False
        self.pending = b""  # not taken by the monitor yet

    def feed(self, data: bytes) -> bool:
        """Pass data on; True when the keys were typed."""
        if self._keys:
            data = self._held + data
            before, found, _ = data.partition(self._keys)
            if found:
                self._send(before)
                return True
            length = next(n for n in range(len(self._keys) - 1, -1, -1) if data.endswith(self._keys[:n]))
            data, self._held = data[: len(data) - length], data[len(data) - length :]
        self._send(data)
        return False

    def end(self) -> None:
        self._ended = True
        self._send(self._held)

    def _send(self, data: bytes) -> None:
        self.pending += data
        self.flush()

    def flush(self) -> None:
        """Send as much as the monitor takes; when all is sent that will ever come, end its stdin."""
        try:
            while self.pending:
                sent = self._monitor.send(self.pending[:STDIN_CHUNK], socket.MSG_DONTWAIT)
                self.pending = self.pending[sent:]
            if self._ended:
                self._monitor.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError:
            log.debug("the container takes no more input")
            self.pending = b""
