"""Worker: the driver's side of the bus. It registers a service's handlers and runs each job in a thread.

A job that is asked again (its asker took us for dead) is not done twice: it is under way still, or its result is known.

One loop thread owns the ZeroMQ socket; results reach it through a queue and an eventfd.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import zmq

from shared.bus.context import Context, check_cancelled, current
from shared.bus.handlers import Handlers
from shared.bus.sockets import prepare, receive_frame, zmq_context
from shared.protocol import (
    DockyardError,
    Frame,
    Header,
    Kind,
    Output,
    Registration,
    decode_job,
    encode_body,
)

__all__ = ["HEARTBEAT_INTERVAL", "Worker", "serve_in_thread"]

HEARTBEAT_INTERVAL = 1.0  # seconds
LEAVE_TIMEOUT = 0.2  # seconds that the engine has to read the last words of one that ends
REMEMBERED = 256  # results that are kept for who asks again
MONITORED = struct.Struct("=H")  # what has happened: the first part of an event begins so (zmq_socket_monitor(3))
log = logging.getLogger("dockyard.bus")


class Worker:
    """Serve ``handlers`` of ``service`` under NAME until ``stop`` is set.

    ``pool``: one of several processes that offer the same names. ``threads``: how many jobs at the same time.
    """

    def __init__(
        self, endpoint: str, name: str, service: Any, handlers: Handlers[Any], *, pool: bool = False, threads: int = 32
    ) -> None:
        self.endpoint, self.name, self.service, self.handlers, self.pool = endpoint, name, service, handlers, pool
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._outbox: deque[list[bytes]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._connected = False
        self._running: dict[str, Context] = {}
        self._results: OrderedDict[str, Frame] = OrderedDict()  # of jobs that ended well

    def serve(self, stop: threading.Event, *, shutdown_timeout: float = 5.0) -> None:
        """Run until ``stop`` is set and `notice` was called; then wait for the jobs under way."""
        socket = zmq_context().socket(zmq.DEALER)
        prepare(socket)
        monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        socket.connect(self.endpoint)
        poller = zmq.Poller()
        for readable in (socket, monitor, self._wake):
            poller.register(readable, zmq.POLLIN)
        beat = 0.0
        try:
            while not stop.is_set():
                ready = dict(poller.poll(int(HEARTBEAT_INTERVAL * 1000)))
                if monitor in ready:
                    (event,) = MONITORED.unpack_from(monitor.recv_multipart()[0])
                    self._connected = event != zmq.EVENT_DISCONNECTED
                    if self._connected:
                        self._register(socket)
                if socket in ready:
                    self._drain(socket)
                self._flush(socket)
                if time.monotonic() - beat >= HEARTBEAT_INTERVAL:
                    beat = time.monotonic()
                    socket.send_multipart(Frame(Kind.HEARTBEAT, Header(name=self.name)).parts())
            self._finish(socket, monitor, shutdown_timeout)
        finally:
            socket.disable_monitor()
            monitor.close(0)
            socket.close(0)

    def notice(self) -> None:
        """Wake the loop: something (an outgoing frame, ``stop``) has changed. Callable from signal handlers."""
        os.eventfd_write(self._wake, 1)

    def leave(self) -> None:
        """Tell the engine that this process was asked to end. Callable from signal handlers."""
        registration = Registration(names=[], pid=os.getpid(), pool=self.pool, leaving=True)
        self._send(Frame(Kind.REGISTER, Header(name=self.name), encode_body(registration)))

    def _register(self, socket: zmq.Socket[bytes]) -> None:
        registration = Registration(names=list(self.handlers), pid=os.getpid(), pool=self.pool)
        header = Header(name=self.name)
        socket.send_multipart(Frame(Kind.REGISTER, header, encode_body(registration)).parts())
        socket.send_multipart(Frame(Kind.READY, header).parts())

    def _drain(self, socket: zmq.Socket[bytes]) -> None:
        while True:
            try:
                frame = receive_frame(socket, zmq.NOBLOCK)
            except zmq.Again:
                return
            except DockyardError as error:
                log.warning("frame dropped error=%s", error)
                continue
            if frame.kind is Kind.JOB:
                self._start(frame)
            elif frame.kind is Kind.CANCEL and frame.header.id in self._running:
                self._running[frame.header.id].cancelled.set()
            elif frame.kind is Kind.REGISTER:
                self._register(socket)
            elif frame.kind is Kind.RESULT:  # the engine refuses our registration
                log.error("registration refused error=%s", frame.error())

    def _start(self, frame: Frame) -> None:
        header = frame.header
        if header.again and header.id in self._running:
            return
        if header.again and (known := self._results.get(header.id)) is not None:
            self._send(known)
            return

        def send_status(output: Output) -> None:
            self._send(Frame(Kind.STATUS, Header(id=header.id, name=header.name), encode_body(output)))

        context = Context(header, send_status)
        self._running[header.id] = context
        self._executor.submit(self._run, context, frame.body)

    def _run(self, context: Context, body: bytes) -> None:
        header = context.header
        token = current.set(context)
        try:
            check_cancelled()  # it may have waited for a thread until nobody wanted it any more
            job = decode_job(header.name, body)
            answer = Frame.result(header, self.handlers[header.name](self.service, job))
        except DockyardError as error:
            answer = Frame.failure(header, error)
        except Exception:
            log.exception("handler failed job=%s name=%s", header.id, header.name)
            answer = Frame.failure(
                header, DockyardError(f"{header.name}: internal error, see the log for job {header.id}")
            )
        finally:
            current.reset(token)
        if not answer.header.status:
            self._remember(answer)
        self._running.pop(header.id, None)
        self._send(answer)

    def _remember(self, answer: Frame) -> None:
        self._results[answer.header.id] = answer
        while len(self._results) > REMEMBERED:
            self._results.popitem(last=False)

    def _send(self, frame: Frame) -> None:
        self._outbox.append(frame.parts())
        self.notice()

    def _flush(self, socket: zmq.Socket[bytes]) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return
        while self._outbox:
            socket.send_multipart(self._outbox.popleft())

    def _finish(self, socket: zmq.Socket[bytes], monitor: zmq.Socket[bytes], timeout: float) -> None:
        self.leave()
        deadline = time.monotonic() + timeout
        while self._running and time.monotonic() < deadline:
            time.sleep(0.01)
            self._flush(socket)
        self._flush(socket)
        if self._connected and not monitor.poll(0):
            self._await_engine(socket, monitor)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _await_engine(self, socket: zmq.Socket[bytes], monitor: zmq.Socket[bytes]) -> None:
        """Wait until the engine has read what was sent, as it has if it answers a heartbeat: an end would lose it.

        Or until it has gone.
        """
        while socket.poll(0):
            socket.recv_multipart()
        socket.send_multipart(Frame(Kind.HEARTBEAT, Header(name=self.name)).parts())
        poller = zmq.Poller()
        for readable in (socket, monitor):
            poller.register(readable, zmq.POLLIN)
        poller.poll(int(LEAVE_TIMEOUT * 1000))


def serve_in_thread(worker: Worker, stop: threading.Event) -> Callable[[], None]:
    """Run a worker beside something else; returns a function that ends it."""
    thread = threading.Thread(target=worker.serve, args=(stop,), name=f"{worker.name}-bus", daemon=True)
    thread.start()

    def end() -> None:
        stop.set()
        worker.notice()
        thread.join(timeout=1)

    return end
