"""Clients that speak HTTP badly, slowly, or in numbers: each is refused as the API refuses, or cut off.

docs/security.md has the table of which these are the tests.
"""

from __future__ import annotations

import contextlib
import json
import re
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

PATIENCE = 8.0  # seconds after which an answer counts as a hang
CLOSE = b"Host: x\r\nConnection: close\r\n"
JSON = CLOSE + b"Content-Type: application/json\r\n"
CREATE = b"POST /containers/create HTTP/1.1\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def dial(stack: Any) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    connection.connect(str(stack.run / "docker.sock"))
    return connection


def converse(stack: Any, data: bytes, *, end: bool = False) -> bytes:
    """Send, and return all that comes until the server closes; ``end``: with a half-close after it."""
    with dial(stack) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may refuse before all is sent
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := connection.recv(1 << 16):
                answer += piece
        return answer


def parse(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body


def refusal(answer: bytes) -> tuple[int, str]:
    """Return status and message of an answer that must be an error as clients read it."""
    status, headers, body = parse(answer)
    assert headers["Content-Type"] == "application/json"
    assert headers["Api-Version"] == "1.51"
    document = json.loads(body)
    assert list(document) == ["message"]
    assert "Traceback" not in document["message"]
    return status, document["message"]


def answers(stack: Any) -> float:
    """Return how long the API takes for what clients ask most; fails if one of the workers does not answer."""
    start = time.monotonic()
    for _ in range(8):  # the kernel spreads connections over the workers
        status, _, _ = parse(converse(stack, b"GET /containers/json HTTP/1.1\r\n" + CLOSE + b"\r\n"))
        assert status == 200
    return time.monotonic() - start


@pytest.fixture(autouse=True)
def alive(stack: Any) -> Iterator[None]:
    """Whatever a client does, the processes stay, and answer."""
    before = stack.pids("apiserver"), stack.pids("engine")
    yield
    assert answers(stack) < PATIENCE
    assert (stack.pids("apiserver"), stack.pids("engine")) == before


# -- what is no HTTP

MALFORMED = {
    "bytes": (400, b"\x00\x01\x02\xff\r\n\r\n"),
    "a TLS hello": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    "no target": (400, b"GET\r\n\r\n"),
    "no version": (400, b"GET /_ping\r\n\r\n"),
    "HTTP/9.9": (400, b"GET /_ping HTTP/9.9\r\n\r\n"),
    "HTTP/2 by prior knowledge": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "a method in small letters": (400, b"get /_ping HTTP/1.1\r\n" + CLOSE + b"\r\n"),
    "bytes above 127 in the path": (400, b"GET /containers/\xff\xfe/json HTTP/1.1\r\n" + CLOSE + b"\r\n"),
    "NUL in the path": (400, b"GET /containers/\x00/json HTTP/1.1\r\n" + CLOSE + b"\r\n"),
    "NUL in a header": (400, b"GET /_ping HTTP/1.1\r\nX: a\x00b\r\n" + CLOSE + b"\r\n"),
    "lines that end in LF": (400, b"GET /_ping HTTP/1.1\nHost: x\n\n"),
    "a folded header": (400, b"GET /_ping HTTP/1.1\r\nX: a\r\n b\r\n" + CLOSE + b"\r\n"),
    "a space before the colon": (400, b"GET /_ping HTTP/1.1\r\nX : a\r\n" + CLOSE + b"\r\n"),
    "two hosts": (400, b"GET /_ping HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"),
    "an expectation": (417, b"GET /_ping HTTP/1.1\r\nExpect: tea\r\n" + CLOSE + b"\r\n"),
    "2,000 headers": (431, b"GET /_ping HTTP/1.1\r\n" + b"X: y\r\n" * 2000 + b"\r\n"),
    "a head of 2 MB": (431, b"GET /_ping HTTP/1.1\r\nX: " + b"y" * (2 << 20) + b"\r\n\r\n"),
    "a line of 2 MB": (431, b"GET /" + b"y" * (2 << 20) + b" HTTP/1.1\r\n\r\n"),
    # request smuggling: where two readers could see different ends of a body
    "length and chunks": (400, CREATE + JSON + b"Content-Length: 4\r\n" + CHUNKED + b"0\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
    "two lengths": (400, CREATE + JSON + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x"),
    "a list of lengths": (400, CREATE + JSON + b"Content-Length: 2, 2\r\n\r\n{}"),
    "a signed length": (400, CREATE + JSON + b"Content-Length: +2\r\n\r\n{}"),
    "a negative length": (400, CREATE + JSON + b"Content-Length: -2\r\n\r\n{}"),
    "chunks twice": (400, CREATE + JSON + b"Transfer-Encoding: chunked\r\n" + CHUNKED + b"0\r\n\r\n"),
    "chunks, and not": (400, CREATE + JSON + b"Transfer-Encoding: identity\r\n" + CHUNKED + b"0\r\n\r\n"),
    "an unknown coding": (501, CREATE + JSON + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    # chunks that are none
    "a size that is no number": (400, CREATE + JSON + CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"),
    "a negative size": (400, CREATE + JSON + CHUNKED + b"-2\r\n{}\r\n0\r\n\r\n"),
    "a size in 0x": (400, CREATE + JSON + CHUNKED + b"0x2\r\n{}\r\n0\r\n\r\n"),
    "data beyond the size": (400, CREATE + JSON + CHUNKED + b"2\r\n{}xx0\r\n\r\n"),
    "an endless size line": (400, CREATE + JSON + CHUNKED + b"1" * (2 << 20)),
    "a header among trailers": (400, CREATE + JSON + CHUNKED + b"2\r\n{}\r\n0\r\nContent-Length: 9\r\n\r\n"),
    "chunks to start": (400, b"POST /containers/x/start HTTP/1.1\r\n" + JSON + CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"),
    "chunks to an exec": (400, b"POST /exec/x/start HTTP/1.1\r\n" + JSON + CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"),
    "chunks to a build": (501, b"POST /build?squash=1 HTTP/1.1\r\n" + CLOSE + CHUNKED + b"5\r\nabcdeXX0\r\n"),
    "chunks to cp": (400, b"PUT /containers/x/archive?path=/ HTTP/1.1\r\n" + CLOSE + CHUNKED + b"zz\r\n"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_http_is_refused(stack: Any, name: str) -> None:
    status, data = MALFORMED[name]
    assert refusal(converse(stack, data))[0] == status


CUT_OFF = {
    "a body shorter than its length": CREATE + JSON + b"Content-Length: 99\r\n\r\n{}",
    "a length of 20 digits": CREATE + JSON + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "a chunk that ends early": CREATE + JSON + CHUNKED + b"9\r\n{}",
    "a chunk of 2^80 bytes": CREATE + JSON + CHUNKED + b"f" * 20 + b"\r\n{}",
    "no last chunk": CREATE + JSON + CHUNKED + b"2\r\n{}\r\n",
}


@pytest.mark.parametrize("name", CUT_OFF)
def test_a_part_of_a_body_is_not_taken_for_the_whole(stack: Any, name: str) -> None:
    status, message = refusal(converse(stack, CUT_OFF[name], end=True))
    assert status == 400
    assert "body" in message


def test_half_a_head_is_closed_without_an_answer(stack: Any) -> None:
    assert converse(stack, b"GET /_ping HTT", end=True) == b""
    assert converse(stack, b"", end=True) == b""


def test_pipelined_requests_are_answered_in_order(stack: Any) -> None:
    first = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /nothing HTTP/1.1\r\n" + CLOSE + b"\r\n"
    body = b"POST /containers/x/start HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    answer = converse(stack, first * 3 + body + last)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200"] * 3 + [b"404"] * 2
    assert b"No such container: x" in answer
    assert answer.endswith(b'{"message":"page not found"}\n')


def test_a_head_may_come_byte_by_byte(stack: Any) -> None:
    with dial(stack) as connection:
        for _ in range(2):  # the second on the same connection
            for byte in b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n":
                connection.sendall(bytes([byte]))
            answer = b""
            while not answer.endswith(b"\r\n\r\nOK"):
                piece = connection.recv(1 << 16)
                assert piece
                answer += piece


# -- paths, queries, bodies

LONG = b"9" * 4400
HOSTILE_TARGETS = {
    "NUL in an id": (404, b"/containers/a%00b/json"),
    "no UTF-8 in an id": (404, b"/containers/%ff%fe/json"),
    "half a surrogate in an id": (404, b"/containers/%ed%a0%80/json"),
    "a newline in an id": (404, b"/containers/a%0ab/json"),
    "an id that leads up": (404, b"/containers/../../etc/passwd"),
    "an id that leads up, hidden": (404, b"/containers/..%2f..%2fetc/json"),
    "an id of two dots": (404, b"/containers/../json"),
    "an id of 100 kB": (404, b"/containers/" + b"a" * 100_000 + b"/json"),
    "an exec of NUL": (404, b"/exec/%00/json"),
    "a volume that leads up": (404, b"/volumes/.."),
    "a volume that leads up, hidden": (404, b"/volumes/..%2f..%2fetc"),
    "a volume of NUL": (404, b"/volumes/a%00b"),
    "an image of NUL": (400, b"/images/a%00b/json"),
    "an image that leads up": (400, b"/images/../../../etc/passwd/json"),
    "a network of NUL": (404, b"/networks/%00"),
    "a version without end": (400, b"/v1." + LONG + b"/_ping"),
    "a version in other digits": (404, b"/v%d9%a1.%d9%a2/_ping"),
    "a number beyond 64 bits": (400, b"/containers/json?limit=99999999999999999999"),
    "a number without end": (400, b"/containers/json?limit=" + LONG),
    "a number in other digits": (400, b"/containers/json?limit=%d9%a1"),
    "a number with a blank": (400, b"/containers/json?limit=%201"),
    "a time beyond all": (400, b"/events?until=99999999999"),
    "a time that is none": (400, b"/containers/x/logs?stdout=1&since=nan"),
    "a time without end": (400, b"/containers/x/logs?stdout=1&since=" + LONG),
    "a tail without end": (404, b"/containers/x/logs?stdout=1&tail=" + LONG),
    "a filter nested without end": (400, b"/containers/json?filters=" + b"[" * 100_000),
    "half a surrogate in a filter": (400, b"/containers/json?filters=%7B%22name%22:[%22%5Cud800%22]%7D"),
    "a filter that is no JSON": (400, b"/containers/json?filters=%7B%00"),
    "a range of ports without end": (
        400,
        b"/containers/json?all=1&filters=%7B%22expose%22:[%220-" + LONG[:12] + b"%22]%7D",
    ),
    "an exit status in other digits": (400, b"/containers/json?filters=%7B%22exited%22:[%22%C2%B2%22]%7D"),
    "an exit status of signs": (400, b"/containers/json?filters=%7B%22exited%22:[%22--1%22]%7D"),
}


@pytest.mark.parametrize("name", HOSTILE_TARGETS)
def test_a_hostile_target(stack: Any, name: str) -> None:
    stack.docker("create", "--name", "there", "busybox", "true")
    status, target = HOSTILE_TARGETS[name]
    assert refusal(converse(stack, b"GET " + target + b" HTTP/1.1\r\n" + CLOSE + b"\r\n"))[0] == status


@pytest.mark.parametrize(
    "target", [b"stop?t=" + LONG, b"resize?h=" + LONG + b"&w=1", b"restart?t=1e400", b"stop?t=nan"]
)
def test_a_hostile_number_to_a_container(stack: Any, target: bytes) -> None:
    stack.docker("create", "--name", "there", "busybox", "true")
    head = b"POST /containers/there/" + target + b" HTTP/1.1\r\n" + CLOSE + b"\r\n"
    assert refusal(converse(stack, head))[0] == 400


def test_of_two_values_of_a_parameter_the_first_counts(stack: Any) -> None:
    """As Go's url.Values.Get has it."""
    stack.docker("create", "busybox", "true")
    for query, count in ((b"all=1&all=0", 1), (b"all=0&all=1", 0)):
        answer = converse(stack, b"GET /containers/json?" + query + b" HTTP/1.1\r\n" + CLOSE + b"\r\n")
        assert len(json.loads(parse(answer)[2])) == count


HOSTILE_BODIES = {
    "nested without end": b'{"a":' * 100_000,
    "lists without end": b'{"Cmd":' + b"[" * 100_000,
    "no UTF-8": b'{"Image":"\xff"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "half a surrogate": b'{"Image":"busybox","Cmd":["\\udfff"]}',
    "half a surrogate as a key": b'{"Image":"busybox","Cmd":["true"],"Labels":{"\\ud800":"x"}}',
    "NaN": b'{"Image":"busybox","HostConfig":{"Memory":NaN}}',
    "infinity": b'{"Image":"busybox","HostConfig":{"Memory":1e999}}',
    "an integer of 65 bits": b'{"Image":"busybox","HostConfig":{"Memory":18446744073709551616}}',
    "an integer of 5,000 digits": b'{"Image":"busybox","HostConfig":{"Memory":' + b"9" * 5000 + b"}}",
    "a list": b"[1]",
    "a word": b'"x"',
    "a second document": b"{}{}",
    "NUL": b"\0",
    "20 MB": b'{"Image":"' + b"x" * (20 << 20) + b'"}',
}


@pytest.mark.parametrize("name", HOSTILE_BODIES)
def test_a_hostile_body(stack: Any, name: str) -> None:
    body = HOSTILE_BODIES[name]
    answer = converse(stack, CREATE + JSON + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert (answer == b"" and len(body) > 16 << 20) or refusal(answer)[0] == 400
    assert stack.out("ps", "-aq") == ""


def test_a_body_of_10_mb_is_taken(stack: Any) -> None:
    body = b'{"Image":"busybox","Cmd":["true"],"Labels":{"x":"' + b"y" * (10 << 20) + b'"}}'
    status, _, _ = parse(converse(stack, CREATE + JSON + b"Content-Length: %d\r\n\r\n" % len(body) + body))
    assert status == 201


# -- slow ones, and many


@contextlib.contextmanager
def crowd(stack: Any, number: int, data: bytes) -> Iterator[list[socket.socket]]:
    """``number`` connections on which ``data`` was sent, and no more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], min(most, 8192)), most))
    with contextlib.ExitStack() as connections:
        made = []
        for _ in range(number):
            connection = connections.enter_context(dial(stack))
            connection.sendall(data)
            made.append(connection)
        yield made
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def threads(stack: Any) -> int:
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in stack.pids("apiserver"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET /contain",
        b"GET /_ping HTTP/1.1\r\nHost: x\r\nX: slow",
        b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\nGET /_pi",  # the second request of a connection
    ],
)
def test_a_thousand_that_say_nothing_more(stack: Any, data: bytes) -> None:
    """They wait on a poller, not in threads: the others do not notice."""
    with crowd(stack, 1000, data):
        assert answers(stack) < 2
        assert stack.out("run", "--rm", "busybox", "echo", "here") == "here"
        assert threads(stack) < 200


def test_a_thousand_bodies_that_stop_in_the_midst(stack: Any) -> None:
    with crowd(stack, 1000, CREATE + JSON + b'Content-Length: 100\r\n\r\n{"Image"'):
        assert answers(stack) < 4
        assert stack.out("run", "--rm", "busybox", "echo", "here") == "here"


def test_two_hundred_that_do_not_take_their_answer(stack: Any) -> None:
    """It is an image's archive, which fits no buffer."""
    with crowd(stack, 200, b"GET /images/busybox/get HTTP/1.1\r\nHost: x\r\n\r\n"):
        assert answers(stack) < 4
        assert stack.out("run", "--rm", "busybox", "echo", "here") == "here"


def test_a_thousand_that_do_not_close(stack: Any) -> None:
    """Closing waits for the client, two seconds: in the thread of that request alone."""
    with crowd(stack, 1000, b"GET /_ping HTTP/1.1\r\n" + CLOSE + b"\r\n"):
        assert answers(stack) < 4


def test_hijacked_connections_that_say_nothing(stack: Any) -> None:
    container = stack.out("run", "-di", "busybox", "cat")
    upgrade = b"Host: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    target = f"POST /containers/{container}/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\n".encode()
    with crowd(stack, 50, target + upgrade) as connections:
        for connection in connections:
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 101 UPGRADED\r\n")
        for connection in connections[:25]:
            connection.shutdown(socket.SHUT_WR)  # half open: stdin has ended
        assert answers(stack) < 2
        assert stack.out("exec", container, "echo", "here") == "here"
        stack.docker("rm", "-f", container)
        for connection in connections:
            assert connection.recv(1 << 16) == b""


def test_a_garbled_hijack(stack: Any) -> None:
    """What comes behind the head is stdin, whatever it is."""
    stack.docker("run", "-di", "--name", "cat", "busybox", "cat")
    for upgrade in (b"Connection: Upgrade\r\nUpgrade: tcp\r\n", b"", b"Connection: Upgrade\r\n"):
        head = b"POST /containers/cat/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n"
        with dial(stack) as connection:
            connection.sendall(head + b"GET / HTTP/1.1\r\n\r\n\xff\x00")
            answer = b""
            while not answer.endswith(b"\xff\x00"):
                answer += connection.recv(1 << 16)
            assert answer.startswith(b"HTTP/1.1 101 " if b"tcp" in upgrade else b"HTTP/1.1 200 ")
