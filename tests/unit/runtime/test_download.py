"""What a download that fails says: an address, and a reason in words."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from shared.bus.context import Context, current
from shared.protocol import Cancelled, DockyardError, Header, InvalidArgument
from shared.runtime.download import downloaded


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_nobody_listens(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(DockyardError) as raised, downloaded(f"http://127.0.0.1:{port}/x"):
        pass
    assert raised.value.message == f"http://127.0.0.1:{port}/x: Connection refused"


def test_a_connection_that_is_reset_in_the_middle(listener: socket.socket) -> None:
    def answer() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        opened.wait(20)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    opened = threading.Event()
    thread = threading.Thread(target=answer)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
    with pytest.raises(DockyardError, match=rf"^{url}: "), downloaded(url) as download:
        assert download.read(4) == b"half"
        opened.set()
        while download.read(10):
            pass
    thread.join()


def test_what_is_no_web_address() -> None:
    with pytest.raises(InvalidArgument, match="no http or https URL"), downloaded("file:///etc/passwd"):
        pass


def test_a_slow_download_can_be_cancelled_between_two_bytes(listener: socket.socket) -> None:
    cancelled, done = threading.Event(), threading.Event()

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\na")
            cancelled.set()
            connection.sendall(b"b")
            done.wait(20)

    thread = threading.Thread(target=answer)
    thread.start()
    token = current.set(Context(Header(name="build"), lambda output: None, cancelled=cancelled))
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        with pytest.raises(Cancelled), downloaded(url) as download:
            download.read(100)
        assert not done.is_set()
    finally:
        current.reset(token)
        done.set()
        thread.join()
