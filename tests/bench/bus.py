"""`make bench`: round trips of jobs through the broker: how many a second, how long one takes.

Eight clients, each with one job under way, as eight connections of one process, so that the machine's cores are the
broker's and the driver's. What is asked: `ping` (the engine's own), `bench_echo` (a driver's: four frames through the
broker), and `containers` with 1,000 records.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

import zmq

from shared.bus.client import Client
from shared.bus.sockets import dealer, engine_endpoint, receive, receive_frame
from shared.protocol import (
    Caller,
    ContainerConfig,
    CreateContainer,
    Frame,
    Header,
    Kind,
    ListCommands,
    ListServices,
    Registration,
    RemoveContainer,
    encode_body,
    new_id,
)

__all__ = ["ECHO", "echo_driver", "frozen", "main", "report", "round_trips"]

CLIENTS = 8
ECHO = "bench_echo"


def round_trips(run: Path, name: str, body: bytes = b"{}", *, seconds: float = 5.0) -> tuple[float, list[float]]:
    """Return jobs a second, and the milliseconds of each. Raises what a job fails with."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    caller = Caller(service="bench", pid=1)
    poller, began, taken = zmq.Poller(), {}, []

    def ask(socket: zmq.Socket[bytes]) -> None:
        header = Header(id=new_id(), name=name, caller=caller, deadline=time.monotonic() + 60)
        began[socket] = time.perf_counter()
        socket.send_multipart(Frame(Kind.JOB, header, body).parts())

    sockets = [dealer(context, engine_endpoint(run)) for _ in range(CLIENTS)]
    for socket in sockets:
        poller.register(socket, zmq.POLLIN)
        ask(socket)
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        for socket, _ in poller.poll(1000):
            parts = [part.bytes for part in receive(socket)]
            if parts[1] == b"RESULT":
                taken.append((time.perf_counter() - began[socket]) * 1000)
                if b'"status"' in parts[2]:
                    raise Frame.parse(parts).error()
                ask(socket)
    rate = len(taken) / (time.perf_counter() - start)
    for socket in sockets:
        socket.close(1000)
    return rate, taken


def report(run: Path, name: str, body: bytes = b"{}", *, title: str = "", seconds: float = 5.0) -> None:
    rate, taken = round_trips(run, name, body, seconds=seconds)
    cuts = statistics.quantiles(taken, n=100)
    print(f"  {title or name:34} {rate:8.0f}/s   p50 {cuts[49]:6.2f} ms   p99 {cuts[98]:6.2f}   n={len(taken)}")


def serve(run: Path) -> None:
    """Be the driver that answers `bench_echo`."""
    socket = dealer(zmq.Context.instance(), engine_endpoint(run))
    me = Header(name="bench")
    socket.send_multipart(Frame(Kind.REGISTER, me, encode_body(Registration(names=[ECHO], pid=os.getpid()))).parts())
    socket.send_multipart(Frame(Kind.READY, me).parts())
    socket.setsockopt(zmq.RCVTIMEO, 1000)
    while True:
        try:
            frame = receive_frame(socket)
        except zmq.Again:
            socket.send_multipart(Frame(Kind.HEARTBEAT, me).parts())
            continue
        if frame.kind is Kind.JOB:
            socket.send_multipart(Frame(Kind.RESULT, Header(id=frame.header.id, name=ECHO), frame.body).parts())


@contextmanager
def echo_driver(run: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.bench.bus", str(run)]
    with closing(Client(engine_endpoint(run), "bench")) as client, subprocess.Popen(command) as process:
        try:
            while ECHO not in client.call(ListCommands()):
                time.sleep(0.05)
            yield
        finally:
            process.kill()


def frozen(run: Path, service: str) -> AbstractContextManager[None]:
    """Stop a driver (SIGSTOP) for a while: what does not need it shall not be slower."""
    with closing(Client(engine_endpoint(run), "bench")) as client:
        (pid,) = [found.pid for found in client.call(ListServices()) if found.service == service]
    stack = ExitStack()
    os.kill(pid, signal.SIGSTOP)
    stack.callback(os.kill, pid, signal.SIGCONT)
    return stack


@contextmanager
def records(run: Path, count: int) -> Iterator[None]:
    """Have ``count`` containers more that were never started."""
    with closing(Client(engine_endpoint(run), "bench")) as client, ExitStack() as stack:
        for _ in range(count):
            made = client.call(CreateContainer(config=ContainerConfig(image="busybox", cmd=["true"])))
            stack.callback(client.call, RemoveContainer(container=made.id))
        yield


def main(run: Path) -> None:
    print("\njobs through the broker, 8 clients")
    report(run, "ping")
    with echo_driver(run):
        report(run, ECHO)
        with frozen(run, "execdriver"):
            report(run, ECHO, title=f"{ECHO}, execdriver stopped")
    with records(run, 1000):
        report(run, "containers", b'{"all":true}', title="containers, 1,000 records")
        with frozen(run, "execdriver"):
            report(run, "containers", b'{"all":true}', title="containers, execdriver stopped")


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
