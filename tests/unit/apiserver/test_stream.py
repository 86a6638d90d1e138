"""Streams: what is known of how far a client has read."""

from __future__ import annotations

import socket
import threading

from services.apiserver.stream import await_read


def test_a_head_is_awaited_until_it_has_been_read() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"HTTP/1.1 101 UPGRADED\r\n\r\n")
        assert not await_read(ours, timeout=0.02)
        threading.Timer(0.05, lambda: theirs.recv(100)).start()
        assert await_read(ours, timeout=10)


def test_a_client_that_has_gone_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(b"head")
        theirs.close()
        assert await_read(ours, timeout=10)


def test_over_tcp_nobody_can_tell() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as ours:
        theirs, _ = listener.accept()
        with theirs:
            ours.sendall(b"head")
            assert await_read(ours, timeout=10)
