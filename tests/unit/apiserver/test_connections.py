"""Connections: when a thread is worth while, and what is done when there is no descriptor for another client."""

from __future__ import annotations

import errno
import queue
import selectors
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from gunicorn.config import Config
from hypothesis import given
from hypothesis import strategies as st

from services.apiserver import connections
from services.apiserver.connections import MAX_HEAD, Connection, Worker

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def pair() -> tuple[Connection, socket.socket]:
    ours, theirs = socket.socketpair()
    return Connection(Config(), ours, "", ""), theirs


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5), st.binary(max_size=30))
def test_a_head_is_whole_however_it_comes(pieces: list[bytes], rest: bytes) -> None:
    """Work begins with the piece in which a blank line ends, and nothing of what came is lost."""
    connection, client = pair()
    sent = b""
    with connection.sock, client:
        for piece in [*pieces, HEAD + rest]:
            client.sendall(piece)
            sent += piece
            whole = b"\r\n\r\n" in sent or b"\n\n" in sent
            assert connection.receive() is whole
            assert connection.received == sent
            if whole:
                return


def test_a_head_without_end_is_work_at_its_limit() -> None:
    connection, client = pair()
    with connection.sock, client:
        for _ in range(MAX_HEAD // 4096):
            client.sendall(b"x" * 4096)
            assert not connection.receive()
        client.sendall(b"x")
        assert connection.receive()
        assert len(connection.received) == MAX_HEAD + 1


def test_an_end_is_work() -> None:
    connection, client = pair()
    client.sendall(b"GET")
    assert not connection.receive()
    client.close()
    assert connection.receive()
    connection.sock.close()


class Listener:
    """Gives the clients, or errors, that are put into it."""

    def __init__(self, *given: Any) -> None:
        self._given = list(given)
        self.socket, self._other = socket.socketpair()

    def accept(self) -> tuple[socket.socket, str]:
        item = self._given.pop(0)
        if isinstance(item, OSError):
            raise item
        return item, ""

    def getsockname(self) -> str:
        return ""

    def setblocking(self, flag: bool) -> None:
        self.socket.setblocking(flag)

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.socket.close()
        self._other.close()


@pytest.fixture
def worker() -> Iterator[Worker]:
    config = Config()
    config.set("worker_connections", 4)
    config.set("threads", 1)
    made = Worker(0, 0, [], None, 0, config, None)
    made.submitted = queue.SimpleQueue()
    made._submit = made.submitted.put
    made.poller = selectors.DefaultSelector()
    yield made
    made.poller.close()
    made.tmp.close()


def test_without_a_descriptor_no_client_is_accepted_for_a_while(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener(OSError(errno.EMFILE, "Too many open files"), OSError(errno.EAGAIN, ""))
    worker.sockets = [listener]
    worker.set_accept_enabled(True)
    worker.accept(listener)
    assert not worker._accepting
    worker.set_accept_enabled(True)
    assert not worker._accepting
    monkeypatch.setattr(connections, "SCARCITY", 0.0)
    worker._scarce_until = 0.0
    worker.set_accept_enabled(True)
    assert worker._accepting
    worker.accept(listener)  # somebody was quicker
    assert worker._accepting
    assert worker.nr_conns == 0
    listener.close()


def test_the_longest_idle_one_makes_room_and_none_that_works(worker: Worker) -> None:
    clients = []
    listener = Listener()
    for number in range(6):
        ours, theirs = socket.socketpair()
        theirs.settimeout(1)
        if number == 0:
            theirs.sendall(HEAD)
        listener._given.append(ours)
        clients.append(theirs)
        worker.accept(listener)
    assert worker.nr_conns < 6
    working = worker.submitted.get_nowait()
    assert working.received == HEAD
    assert clients[1].recv(1) == b""  # closed
    for busy_or_new in (clients[0], clients[5]):
        with pytest.raises(TimeoutError):
            busy_or_new.recv(1)
    for connection in [working, *worker._idle]:
        connection.sock.close()
    for client in clients:
        client.close()
    listener.close()
