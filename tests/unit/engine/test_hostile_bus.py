"""Peers that break the protocol: nothing they send ends the engine, holds it, or is taken for another's answer."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import zmq

from shared.bus.sockets import dealer, engine_endpoint
from shared.protocol import (
    MAGIC,
    AwaitService,
    DockyardError,
    Frame,
    Header,
    Kind,
    ListCommands,
    ListJobs,
    Output,
    Ping,
    Registration,
    Unavailable,
    encode_body,
    new_id,
)


@contextmanager
def peer(stack: Any) -> Iterator[zmq.Socket[bytes]]:
    with dealer(zmq.Context.instance(), engine_endpoint(stack.config.run)) as connection:
        yield connection


def register(connection: zmq.Socket[bytes], name: str, **what: Any) -> None:
    registration = Registration(**{"pid": os.getpid(), **what})
    connection.send_multipart(Frame(Kind.REGISTER, Header(name=name), encode_body(registration)).parts())
    connection.send_multipart(Frame(Kind.READY, Header(name=name)).parts())


def receive(connection: zmq.Socket[bytes], timeout: float = 5) -> Frame:
    assert connection.poll(int(timeout * 1000))
    return Frame.parse(connection.recv_multipart())


def in_background(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(function())
        except DockyardError as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def alive(stack: Any) -> None:
    before = time.monotonic()
    assert stack.client.call(Ping(), timeout=20) == "OK"
    assert time.monotonic() - before < 10


@pytest.fixture
def engine(stack: Any) -> Any:
    for service in ("engine", "graphdriver", "netdriver", "execdriver"):
        stack.client.call(AwaitService(service=service))
    return stack


# -- noise

HEADERS = [
    b"", b"{", b"null", b"[]", b'{"id":1}', b'{"id":"x"}', b'{"id":"x","name":"kill"}', b'{"id":"x","name":"ping"}',
    b'{"id":"x","name":"containers","deadline":-1}', b'{"id":"x","name":"ping","deadline":1e308}',
    b'{"id":"x","name":"ping","deadline":1e999}', b'{"id":"x","name":"ping","deadline":NaN}',
    b'{"id":"x","name":"ping","status":99999999999999999999}', b'{"id":"x","name":"wait","parent":"x"}',
    b'{"name":"x"}', b'{"id":"\\ud800","name":"ping"}', b'{"id":"\\u0000","name":"\\n"}', b'{"id":"x","again":true}',
    b'{"id":"x","name":"ping","again":true}', b'{"id":"x","name":"ping","caller":{"service":"e","pid":-1,"uid":-1}}',
    b"[" * 10_000, b'{"id":"x","id":"y","name":"ping"}', b'{"id":"' + b"x" * 10_000 + b'","name":"ping"}', b"\xff\xfe",
]  # fmt: skip
BODIES = [
    b"", b"null", b"{}", b"{", b"7", b'{"names":["ping"],"pid":1}', b'{"names":[],"pid":99999999999999}',
    b'{"names":[],"pid":0}', b'{"names":[""],"pid":1}', b'{"names":["n1"],"pid":99999999999999999999999}',
    b'{"code":"nonesuch","message":"m"}', b'{"code":1}', b'{"stream":"ticket","text":"{"}', b'{"stream":1}',
    b'{"job":"ping"}', b'{"job":"kill","container":"x"}', b'{"job":"containers","all":7}', b"\xff", b"[" * 10_000,
    b'{"job":"wait","container":"x","condition":"\\ud800"}', b'{"x":' * 5000, b"\0" * 1000,
]  # fmt: skip


def noise(chance: random.Random) -> list[bytes]:
    """A message that is wrong in one way or in all, or right and out of place."""
    kinds = [*(kind.encode() for kind in Kind), b"", b"job", b"SHOUT", b"\xff", b"JOB\0"]
    parts = [MAGIC, chance.choice(kinds), chance.choice(HEADERS), chance.choice(BODIES)]
    if chance.random() < 0.2:
        parts[chance.randrange(4)] = chance.randbytes(chance.randrange(64))
    if chance.random() < 0.1:
        parts = parts[: chance.randrange(5)] + [b"more"] * chance.randrange(3)
    return parts or [b""]


def test_ten_thousand_random_frames(engine: Any) -> None:
    """Sent by peers that read some of the answers, all of them, or none."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    for number in range(10):
        with peer(engine) as connection:
            for _ in range(1000):
                connection.send_multipart(noise(chance))
                while number % 3 == 0 and connection.poll(0):
                    connection.recv_multipart()
            connection.send_multipart(Frame(Kind.JOB, Header(id=new_id(), name="ping"), b"{}").parts())
            if number % 3 == 0:
                while (answer := receive(connection)).body != b'"OK"' or answer.header.id in ("x", "y"):
                    continue
    alive(engine)
    assert "layer_mount" in engine.client.call(ListCommands()), f"seed {seed}"
    held = [job for job in engine.client.call(ListJobs(running=True)) if job.id in ("x", "y")]
    assert not held, f"seed {seed}: {held}"


@pytest.mark.parametrize("pid", [2**31, 2**63 - 1, 2**62, 4194305, -1, 0])
def test_a_registration_for_no_process(engine: Any, pid: int) -> None:
    with peer(engine) as connection:
        register(connection, "nobody", names=["nothing"], pid=pid)
        assert receive(connection).error().code == "invalid_argument"
    alive(engine)


# -- connections that end, or never do

GREETING = b"\xff" + b"\0" * 8 + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + b"\0" * 32
READY = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x06DEALER"
WHOLE = [b"\x01\x03DY1", b"\x01\x03JOB", b"\x00\x02{}"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        GREETING[:20],
        GREETING,
        GREETING + READY[:10],
        GREETING + READY,
        GREETING + READY + WHOLE[0],  # the message has more parts, which never come
        GREETING + READY + WHOLE[0] + WHOLE[1][:2],
        GREETING + READY + b"\x01\xff",  # a part of 255 bytes
        GREETING + READY + b"\x03" + b"\x7f" + b"\xff" * 7,  # one of 2^63 bytes
        GREETING + READY + b"\xf8\x01x",  # flags that are none
    ],
)
def test_a_connection_that_breaks_off_in_the_midst(engine: Any, data: bytes) -> None:
    path = engine_endpoint(engine.config.run).removeprefix("ipc://")
    connections = []
    for _ in range(20):
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(path)
        connection.sendall(data)
        connections.append(connection)
    alive(engine)  # while they are there
    for connection in connections:
        connection.close()
    alive(engine)


def test_a_client_that_never_reads(engine: Any) -> None:
    """What it does not take is dropped, not kept: and nobody else waits."""
    before = resident()
    with peer(engine) as connection:
        connection.setsockopt(zmq.RCVHWM, 1)
        for _ in range(20_000):  # each answer is some kilobytes
            connection.send_multipart(Frame(Kind.JOB, Header(id=new_id(), name="commands"), b"{}").parts())
        alive(engine)  # at once, were the others' turn not over
        deadline = time.monotonic() + 30
        while any(job.name == "commands" for job in engine.client.call(ListJobs(running=True))):
            assert time.monotonic() < deadline
    assert resident() - before < 60 << 20


def resident() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123 (a file of the kernel's)
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# -- drivers


def test_a_driver_of_ten_thousand_names(engine: Any) -> None:
    names = [f"name_{number}" for number in range(10_000)]
    with peer(engine) as driver:
        register(driver, "many", names=names)
        engine.client.call(AwaitService(service="many"))
        assert set(names) <= set(engine.client.call(ListCommands()))
        asking, results = in_background(lambda: engine.client.call_raw("name_9999", b"{}"))
        job = receive(driver)
        driver.send_multipart(Frame.result(job.header, "here").parts())
        asking.join(5)
        assert results == [b'"here"']
        alive(engine)
        with peer(engine) as second:
            register(second, "impostor", names=["name_5000"])
            assert "Can't overwrite handler for command name_5000" in receive(second).error().message


def test_a_driver_that_answers_twice(engine: Any) -> None:
    """The first answer counts; the second is nobody's, also if its id has come to be another job's."""
    with peer(engine) as driver:
        register(driver, "twice", names=["ask"])
        engine.client.call(AwaitService(service="twice"))
        asking, results = in_background(lambda: engine.client.call_raw("ask", b"{}"))
        job = receive(driver)
        for word in ("first", "second"):
            driver.send_multipart(Frame.result(job.header, word).parts())
        driver.send_multipart(Frame(Kind.STATUS, job.header, encode_body(Output(text="late"))).parts())
        asking.join(5)
        assert results == [b'"first"']
        asking, results = in_background(lambda: engine.client.call_raw("ask", b"{}"))
        following = receive(driver)
        driver.send_multipart(Frame.result(job.header, "again the first").parts())
        driver.send_multipart(Frame.result(following.header, "its own").parts())
        asking.join(5)
        assert results == [b'"its own"']


def test_nobody_answers_for_another(engine: Any) -> None:
    with peer(engine) as driver, peer(engine) as thief:
        register(driver, "honest", names=["ask"])
        register(thief, "thief", names=["steal"])
        for service in ("honest", "thief"):
            engine.client.call(AwaitService(service=service))
        asking, results = in_background(lambda: engine.client.call_raw("ask", b"{}"))
        job = receive(driver)
        thief.send_multipart(Frame.result(job.header, "forged").parts())
        with peer(engine) as nobody:
            nobody.send_multipart(Frame.result(job.header, "forged").parts())
            alive(engine)
        driver.send_multipart(Frame.result(job.header, "true").parts())
        asking.join(5)
        assert results == [b'"true"']


@pytest.mark.parametrize("kind", [Kind.STATUS, Kind.RESULT])
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"7", b'{"code":"x"}', b"[" * 10_000])
def test_a_driver_whose_answers_are_garbled(engine: Any, kind: Kind, body: bytes) -> None:
    """The caller gets an error, whatever it is, and the engine goes on."""
    with peer(engine) as driver:
        register(driver, "garbled", names=["ask"])
        engine.client.call(AwaitService(service="garbled"))
        ask = partial(engine.client.call_raw, "ask", b"{}", timeout=5, on_status=lambda output: None)
        asking, results = in_background(ask)
        header = receive(driver).header
        status = 1 if kind is Kind.RESULT else 0
        before = time.monotonic()
        driver.send_multipart(Frame(kind, Header(id=header.id, name=header.name, status=status), body).parts())
        asking.join(8)
        assert isinstance(results[0], DockyardError)
        assert ("malformed" in results[0].message, time.monotonic() - before < 0.4) == (True, True), results
        alive(engine)
        assert not [job for job in engine.client.call(ListJobs(running=True)) if job.name == "ask"]


DRIVER = """
import os, sys, zmq
from shared.bus.sockets import dealer
from shared.protocol import *
socket = dealer(zmq.Context.instance(), sys.argv[1])
registration = Registration(names=["ask"], pid=os.getpid())
socket.send_multipart(Frame(Kind.REGISTER, Header(name="dying"), encode_body(registration)).parts())
socket.send_multipart(Frame(Kind.READY, Header(name="dying")).parts())
job = Frame.parse(socket.recv_multipart())
parts = Frame.result(job.header, "x" * 1000).parts()
for part in parts[:int(sys.argv[2])]:
    socket.send(part, zmq.SNDMORE)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("parts", [0, 1, 3])
def test_a_driver_that_dies_in_the_midst_of_its_answer(engine: Any, parts: int) -> None:
    endpoint = engine_endpoint(engine.config.run)
    with subprocess.Popen([sys.executable, "-c", DRIVER, endpoint, str(parts)]) as process:
        engine.client.call(AwaitService(service="dying"))
        before = time.monotonic()
        with pytest.raises(Unavailable, match="died"):
            engine.client.call_raw("ask", b"{}")
        assert time.monotonic() - before < 5
        assert process.wait(5) == -9
    alive(engine)
