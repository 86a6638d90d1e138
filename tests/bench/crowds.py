"""`make bench`: what many connections that do next to nothing cost: memory (PSS), and others' time; beside a peer.

A thousand streams (events, logs -f, wait, attach) that are silent; ten thousand connections on which no request comes
as a whole: half say nothing, half send a byte a second.
"""

from __future__ import annotations

import resource
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.bench.engines import Engine
from tests.bench.load import Load, cpu_seconds, descendants, measure, pss

__all__ = ["KINDS", "NAME", "Crowd", "connections", "idle_load", "idle_streams", "main", "memory", "most"]

STREAMS, CONNECTIONS = 1000, 10_000
RESERVED = 500  # descriptors of ours for whatever else is open
SECONDS = 2.0  # of `ps` by one client
SETTLE = 0.5  # seconds
CALM = 10.0  # seconds
LABEL, NAME = "dockyard.bench=crowds", "dockyard-bench-crowds"
HEAD = b"GET /_ping HTTP/1.1\r\nHost: docker\r\nX-Slow: "
KINDS = (  # events last: who listens is told of each attach
    ("attach", "POST", f"/containers/{NAME}/attach?stream=1&stdout=1&stdin=1"),
    ("wait", "POST", f"/containers/{NAME}/wait"),
    ("logs -f", "GET", f"/containers/{NAME}/logs?follow=1&stdout=1"),
    ("events", "GET", "/events"),
)


@dataclass(frozen=True)
class Crowd:
    """``each``: bytes of the engine's processes for one connection; ``count``: of these there are."""

    count: int
    each: float


@contextmanager
def idle_streams(path: str, count: int, method: str, target: str) -> Iterator[None]:
    """Have ``count`` streams open, each of which has sent the head of its answer."""
    upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n" if "/attach" in target else ""
    request = f"{method} {target} HTTP/1.1\r\nHost: docker\r\n{upgrade}\r\n".encode()
    with ExitStack() as opened:
        for _ in range(count):
            connection = _connect(opened, path)
            connection.sendall(request)
            head = connection.recv(4096)
            if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 101")):
                raise RuntimeError(f"{target}: {head[:200]!r}")
        yield


@contextmanager
def connections(path: str, count: int) -> Iterator[list[socket.socket]]:
    """Have ``count`` connections open: by turns one that says nothing, and one that sends a byte a second."""
    done = threading.Event()
    with _descriptors(), ExitStack() as opened:
        made = [_connect(opened, path) for _ in range(count)]
        slow = made[1::2]
        for connection in slow:
            connection.sendall(HEAD)

        def drip() -> None:
            while not done.wait(1.0):
                for connection in slow:
                    with _forgiving():
                        connection.send(b"x", socket.MSG_DONTWAIT)

        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        try:
            yield made
        finally:
            done.set()
            dripping.join()


@contextmanager
def _forgiving() -> Iterator[None]:
    """The server may close a connection at any time: that is for who counts them to notice."""
    try:
        yield
    except OSError:
        return


def _connect(opened: ExitStack, path: str) -> socket.socket:
    connection = opened.enter_context(socket.socket(socket.AF_UNIX))
    connection.connect(path)  # it waits for room in the queue of the listener
    connection.settimeout(30)
    return connection


@contextmanager
def _descriptors() -> Iterator[None]:
    """Have as many descriptors as the process may have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def most() -> int:
    """Return how many connections a client on this host may have, of `CONNECTIONS`."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return CONNECTIONS if limit == resource.RLIM_INFINITY else min(CONNECTIONS, limit - RESERVED)


def main(engines: list[Engine]) -> None:
    """Print what they cost, for ours and the first peer."""
    print("\nmany connections that do next to nothing")
    for engine in engines[:2]:
        print(f"  {engine.name:10} {'ps, nobody beside it':36} {_latency(_ps(engine))}")
        _show_connections(engine)  # first: it would be given what streams have left
        _show_streams(engine)


def _show_connections(engine: Engine) -> None:
    count, before = most(), memory(engine.server)
    with connections(str(engine.api), count):
        time.sleep(SETTLE)
        crowd = Crowd(count, (memory(engine.server) - before) / count)
        print(f"  {engine.name:10} {_cost('unfinished requests', crowd)}")
        print(f"  {engine.name:10} {'ps beside them':36} {_latency(_ps(engine))}")


def _show_streams(engine: Engine) -> None:
    engine.run("-di", "--label", LABEL, "--name", NAME, "busybox", "cat")
    count = STREAMS // len(KINDS)
    try:
        with _descriptors(), ExitStack() as opened:
            for kind, method, target in KINDS:
                before = memory(engine.server)
                opened.enter_context(idle_streams(str(engine.api), count, method, target))
                time.sleep(SETTLE)
                crowd = Crowd(count, (memory(engine.server) - before) / count)
                print(f"  {engine.name:10} {_cost(f'idle {kind}', crowd)}")
            part = idle_load(engine.server)
            print(f"  {engine.name:10} {'processor time of all of them':36} {100 * part:7.1f} % of a core")
            print(f"  {engine.name:10} {f'ps beside these {STREAMS} streams':36} {_latency(_ps(engine))}")
    finally:
        engine.do("rm", "-f", NAME)


def idle_load(server: int, seconds: float = CALM) -> float:
    """Return the part of a core that a process and all below it need while nothing happens, a while after it has."""
    time.sleep(seconds)
    before, began = cpu_seconds(descendants(server)), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(descendants(server)) - before) / (time.monotonic() - began)


def memory(server: int) -> int:
    """Return what a process and all below it have in memory (PSS), in bytes."""
    return sum(map(pss, descendants(server)))


def _ps(engine: Engine) -> Load:
    return measure(str(engine.api), "/containers/json", 1, SECONDS, lambda: descendants(engine.server))


def _cost(title: str, crowd: Crowd) -> str:
    return f"{crowd.count:6} {title:29} {crowd.each / 1024:7.1f} KiB each"


def _latency(load: Load) -> str:
    return f"p50 {statistics.median(load.latencies) * 1000:7.2f} ms   p99 {load.p99 * 1000:7.2f} ms"
