"""Attach: what crosses between a client and a monitor, with socket pairs for both."""

from __future__ import annotations

import socket
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.apiserver.attach import End, Options, parse_detach_keys, relay, unframed
from services.apiserver.stream import Client
from shared.protocol import InvalidArgument


class Session:
    def __init__(self, *, tty: bool = False, stdin: bool = True, stderr: bool = True, read_ahead: bytes = b"") -> None:
        self.client, client = socket.socketpair()
        self.monitor, monitor = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        options = Options(stdin, stdout=True, stderr=stderr, tty=tty, detach_keys=parse_detach_keys(""))
        self.ends: list[End] = []

        def run() -> None:
            with monitor:
                connection = Client(client, read_ahead)
                self.ends.append(relay(connection, monitor, options))
                connection.finish()

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def finish(self) -> bytes:
        """Close the monitor and return all that the client was sent."""
        self.monitor.close()
        data = b""
        while chunk := self.client.recv(65536):
            data += chunk
        self.client.close()
        self.thread.join(5)
        return data


def frame(stream: int, data: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(data)) + data


def test_packets_become_frames() -> None:
    session = Session()
    session.monitor.send(b"\x02out")
    session.monitor.send(b"\x03err")
    assert session.finish() == frame(1, b"out") + frame(2, b"err")
    assert session.ends == [End.EXIT]


def test_a_terminal_is_raw_and_stderr_can_be_left_out() -> None:
    session = Session(tty=True)
    session.monitor.send(b"\x02raw")
    assert session.finish() == b"raw"
    session = Session(stderr=False)
    session.monitor.send(b"\x03err")
    assert session.finish() == b""


def test_a_half_close_ends_stdin_and_output_goes_on() -> None:
    session = Session(read_ahead=b"ahead ")
    session.client.sendall(b"typed")
    session.client.shutdown(socket.SHUT_WR)
    received = b""
    while chunk := session.monitor.recv(65536):
        received += chunk
    assert received == b"ahead typed"
    session.monitor.send(b"\x02later")
    assert session.finish() == frame(1, b"later")


def test_without_stdin_nothing_is_passed_on() -> None:
    session = Session(stdin=False)
    session.client.sendall(b"typed")
    session.client.shutdown(socket.SHUT_WR)
    session.monitor.settimeout(0.1)
    with pytest.raises(TimeoutError):
        session.monitor.recv(1)
    assert session.finish() == b""


@pytest.mark.parametrize("pieces", [[b"ab\x10\x11"], [b"ab\x10", b"\x11"], [b"a", b"b", b"\x10", b"\x11"]])
def test_the_detach_keys_detach_however_they_arrive(pieces: list[bytes]) -> None:
    session = Session(tty=True)
    for piece in pieces:
        session.client.sendall(piece)
    received = b""
    while chunk := session.client.recv(65536):
        received += chunk
    session.client.close()
    session.thread.join(5)
    assert session.ends == [End.DETACHED]
    typed = b""
    while chunk := session.monitor.recv(65536):
        typed += chunk
    assert (received, typed) == (b"", b"ab")
    session.monitor.close()


def test_half_the_keys_are_held_until_they_are_not_the_keys() -> None:
    session = Session(tty=True)
    session.client.sendall(b"\x10")
    session.client.sendall(b"x")
    assert session.monitor.recv(65536) == b"\x10x"
    session.finish()


@given(st.text(max_size=20))
def test_detach_keys_are_parsed_or_refused(text: str) -> None:
    try:
        assert parse_detach_keys(text)
    except InvalidArgument:
        return


def test_detach_keys() -> None:
    assert parse_detach_keys("ctrl-a,x,ctrl-[") == b"\x01x\x1b"
    for wrong in ("ctrl-", "ctrl-p,", "ab", "ctrl-1"):
        with pytest.raises(InvalidArgument):
            parse_detach_keys(wrong)


def test_a_monitor_that_closes_with_input_unread_loses_no_output() -> None:
    session = Session()
    session.client.sendall(b"unread")
    session.monitor.send(b"\x02last words")
    assert session.finish() == frame(1, b"last words")


def test_input_that_is_not_taken_does_not_hold_output_back() -> None:
    session = Session()
    data, output = b"x" * 2_000_000, b"y" * 8000
    feeder = threading.Thread(target=lambda: (session.client.sendall(data), session.client.shutdown(socket.SHUT_WR)))
    feeder.start()
    framed = 300 * (8 + len(output))
    got = threading.Thread(target=lambda: session.client.recv(framed, socket.MSG_WAITALL))
    got.start()
    session.monitor.settimeout(5)
    for _ in range(300):  # far more than the sockets hold, and no input is read meanwhile
        session.monitor.send(b"\x02" + output)
    received = 0
    while chunk := session.monitor.recv(65536):
        received += len(chunk)
    assert received == len(data)
    got.join(5)
    feeder.join(5)
    session.finish()


@given(st.lists(st.binary(max_size=30), max_size=8), st.integers(1, 40))
def test_frames_in_pieces_of_any_size_are_unframed(payloads: list[bytes], size: int) -> None:
    stream = b"".join(frame(1, payload) for payload in payloads)
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert b"".join(unframed(pieces)) == b"".join(payloads)
