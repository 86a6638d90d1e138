"""What a download that fails says: an address, and a reason in words."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from shared.protocol import DockyardError, InvalidArgument
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


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/a b", b"/a%20b"),
        ("/\u00e9?q=\U0001f600", b"/%C3%A9?q=%F0%9F%98%80"),
        ("/a%20b%2Fc;d?e=f&g=%25", b"/a%20b%2Fc;d?e=f&g=%25"),
        ("/x\r\nHost: evil", b"/xHost:%20evil"),  # urlsplit drops the line's end
    ],
)
def test_what_no_request_line_may_have_is_escaped(listener: socket.socket, path: str, line: bytes) -> None:
    asked: list[bytes] = []

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            asked.append(connection.recv(65536).split(b"\r\n")[0])
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=answer)
    thread.start()
    with downloaded(f"http://127.0.0.1:{listener.getsockname()[1]}{path}") as download:
        assert download.read() == b""
    thread.join()
    assert asked == [b"GET " + line + b" HTTP/1.1"]


@pytest.mark.parametrize("host", ["\U0001f600" * 70, "\ufffd", "a" * 64 + "\u00e9"], ids=["long", "none", "label"])
def test_a_name_of_no_host_is_refused_in_words(host: str) -> None:
    with pytest.raises(InvalidArgument, match="no http or https URL"), downloaded(f"http://{host}/"):
        pass
