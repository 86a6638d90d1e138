"""What the graphdriver promises of the contents of containers, on each storage driver: import."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import zstandard

from services.graphdriver.blobs import digest_of
from shared.bus.tickets import deliver
from shared.protocol import (
    CollectGarbage,
    DockyardError,
    GraphCollect,
    ImportLayer,
    InvalidArgument,
    Ticket,
    Unavailable,
)
from tests.contract.contents import (
    BASE,
    new_image,
    recorded,
    sender,
    upload,
)
from tests.contract.test_graphdriver import Graph, graph, machine, tar

__all__ = ["graph", "machine"]

pytestmark = pytest.mark.root


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_a_tar_becomes_an_image(graph: Graph, pack: Callable[[bytes], bytes]) -> None:
    order = ImportLayer(src="-", image=new_image(tags=["example.test/x:1"], action="import", comment="hi"))
    image_id = upload(graph, order, sender(pack(BASE)))
    image = recorded(graph)
    assert (image.id, image.diff_ids) == (image_id, [digest_of(BASE)])
    assert graph.bus.calls[-1].tags == ["example.test/x:1"]  # type: ignore[attr-defined]
    assert (graph.mounted(image) / "old/sub/c").read_text() == "c"


@pytest.mark.parametrize(
    "data",
    [b"", b"no tar" * 1000, BASE[:700], gzip.compress(BASE)[:-9], zstandard.compress(BASE)[:-9],
     bz2.compress(BASE)[:-9], lzma.compress(BASE)[:-9], BASE[:1536] + b"x" * 512 + BASE[2048:]],
)  # fmt: skip
def test_a_broken_tar_becomes_none(graph: Graph, data: bytes) -> None:
    graph.bus.answers["graph_gc"] = lambda job: graph.do(GraphCollect(keep_names=[], keep_containers=[]))
    with pytest.raises(InvalidArgument):
        upload(graph, ImportLayer(src="-", image=new_image()), sender(data))
    assert not [call for call in graph.bus.calls if not isinstance(call, CollectGarbage)]
    assert not graph.files()


def test_what_its_sender_did_not_finish_becomes_none(graph: Graph) -> None:
    whole = tar({"a": b"1"})[:1024]  # ends with a member: as a tar there is nothing wrong with it

    def interrupted() -> Iterator[bytes]:
        yield whole
        raise ConnectionResetError

    def send(ticket: Ticket) -> None:
        with contextlib.suppress(ConnectionResetError):
            deliver(ticket, interrupted())

    with pytest.raises(Unavailable, match="went away"):
        upload(graph, ImportLayer(src="-", image=new_image()), send)
    upload(graph, ImportLayer(src="-", image=new_image()), sender(whole))
    assert len(graph.bus.calls) == 1


class Server:
    """An HTTP server on loopback that answers each request with ``answer``."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"127.0.0.1:{self.listener.getsockname()[1]}/root.tar"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(self.answer)


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], str]]:
    with contextlib.ExitStack() as stack:

        def make(answer: bytes) -> str:
            server = Server(answer)
            stack.callback(server.listener.close)
            return server.url

        yield make


def test_a_url_is_fetched_with_progress(graph: Graph, serve: Callable[[bytes], str]) -> None:
    packed = gzip.compress(BASE)
    url = serve(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed)
    upload(graph, ImportLayer(src=url, image=new_image()), sender(b""))
    assert recorded(graph).diff_ids == [digest_of(BASE)]
    assert graph.progress[0] == {"status": f"Downloading from http://{url}"}
    assert graph.progress[-1]["progressDetail"] == {"current": len(packed), "total": len(packed)}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP status code 404"),
        (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n", "status code 302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n" + BASE[:1024], "unexpected EOF: "),
        (b"SSH-2.0\r\n", "cannot import"),
    ],
)
def test_what_a_server_does_not_give_whole_becomes_none(
    graph: Graph, serve: Callable[[bytes], str], answer: bytes, why: str
) -> None:
    with pytest.raises(DockyardError, match=why):
        upload(graph, ImportLayer(src=f"http://{serve(answer)}", image=new_image()), sender(b""))
    assert not graph.bus.calls


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "invalid_argument"),
        (401, "unauthorized"),
        (403, "permission_denied"),
        (404, "not_found"),
        (500, "internal"),
    ],
)
def test_a_refusal_comes_before_anything_is_told(
    graph: Graph, serve: Callable[[bytes], str], status: int, code: str
) -> None:
    refused = ImportLayer(src=serve(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status), image=new_image())
    with pytest.raises(DockyardError) as raised:
        upload(graph, refused, sender(b""))
    assert (raised.value.code, graph.progress) == (code, [])


def test_nobody_at_the_url_is_told_before_anything_else(graph: Graph) -> None:
    with pytest.raises(DockyardError, match=r"cannot import from http://127\.0\.0\.1:9/x: Connection refused"):
        upload(graph, ImportLayer(src="127.0.0.1:9/x", image=new_image()), sender(b""))
    assert not graph.progress


@pytest.mark.parametrize("src", ["http://\0", "{}", "127.0.0.1:x/y", '{"a":1}', "a b", "%FF", "\udcff"])
def test_a_url_that_is_none_is_the_callers_mistake(graph: Graph, src: str) -> None:
    with pytest.raises(InvalidArgument, match="is no http or https URL"):
        upload(graph, ImportLayer(src=src, image=new_image()), sender(b""))
    assert not graph.progress


@pytest.mark.parametrize("src", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "data://x"])
def test_no_other_kind_of_source_is_opened(graph: Graph, src: str) -> None:
    with pytest.raises(InvalidArgument, match="neither"):
        upload(graph, ImportLayer(src=src, image=new_image()), sender(b""))
