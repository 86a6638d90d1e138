"""Client: the caller's side of the bus, for threads. Each thread has a DEALER socket of its own."""

from __future__ import annotations

import os
import threading
import time
from typing import TypeVar

import msgspec
import zmq

from shared.bus.alarm import Alarm
from shared.bus.bus import PATIENCE, EngineSilent, OnStatus
from shared.bus.context import current, origin
from shared.bus.sockets import dealer, receive_frame, zmq_context
from shared.protocol import (
    Caller,
    Cancelled,
    Frame,
    Header,
    Job,
    JobNotFound,
    Kind,
    Output,
    Unavailable,
    decode_body,
    encode_body,
    job_name,
    job_type,
    new_id,
    result_type,
)

__all__ = ["RETRY_PAUSE", "RETRY_TIME", "Client", "Patience"]

R = TypeVar("R")
HEARTBEAT_INTERVAL = 0.5  # seconds of silence after which the engine is asked whether it still has the job
LONG_INTERVAL = 2.0  # the same, of a job that has been waited for since `LONG` seconds: a thousand may wait for ever
LONG = 5.0
RETRY_TIME = 10.0  # seconds for which a repeatable job is asked again after a process that had it is gone
RETRY_PAUSE = 0.05  # seconds
CANCEL_INTERVAL = 0.05  # seconds between two looks whether a cancelled job has ended


class Client:
    """A `Bus` over ZeroMQ. ``endpoint`` is the engine's, as ``ipc:///run/dockyard/engine.sock``."""

    def __init__(self, endpoint: str, service: str) -> None:
        self.endpoint = endpoint
        self._caller = Caller(service=service, pid=os.getpid(), uid=os.geteuid())
        self._context = zmq_context()
        self._sockets: dict[int, zmq.Socket[bytes]] = {}  # by thread
        self._of_this_thread = threading.local()

    def _socket(self) -> zmq.Socket[bytes]:
        ident = threading.get_ident()
        socket = self._sockets.get(ident)
        if socket is None:
            socket = self._sockets[ident] = dealer(self._context, self.endpoint)
            self._of_this_thread.closing = _Closing(self._sockets, ident, socket)
        return socket

    def close(self) -> None:
        """Close all sockets; no thread may be in a call."""
        while self._sockets:
            self._sockets.popitem()[1].close(0)

    def call(
        self,
        job: Job[R],
        *,
        timeout: float | None = 60.0,
        on_status: OnStatus | None = None,
        patience: float = PATIENCE,
    ) -> R:
        body = self.call_raw(job_name(job), encode_body(job), timeout=timeout, on_status=on_status, patience=patience)
        result: R = decode_body(body, result_type(type(job)))
        return result

    def call_raw(
        self,
        name: str,
        body: bytes,
        *,
        timeout: float | None = 60.0,
        on_status: OnStatus | None = None,
        patience: float = PATIENCE,
    ) -> bytes:
        """Send a job as encoded JSON and return its result as encoded JSON; else as `call`."""
        header = self._header(name, timeout)
        patient = Patience(RETRY_TIME)
        try:
            while True:
                patient.begin()
                try:
                    return self._ask(header, body, on_status, patience)
                except EngineSilent:
                    raise
                except Unavailable:
                    if not _is_repeatable(name) or patient.is_over() or _is_late(header):
                        raise
                time.sleep(RETRY_PAUSE)
                header = msgspec.structs.replace(header, again=True)
        except zmq.ZMQError as error:
            raise Unavailable(f"{name}: the bus does not answer: {error}") from error
        except BaseException:
            self._forget(header)
            raise

    def cancel(self, job_id: str, *, timeout: float = 5.0) -> bool:
        """Cancel a job, whoever called it, and wait until it has ended, ``timeout`` seconds at most.

        False: the job is still ending. Raises Unavailable (the engine does not answer). A job that is not under way
        counts as ended.
        """
        socket, header = self._socket(), Header(id=job_id)
        answered, deadline = False, time.monotonic() + timeout
        socket.send_multipart(Frame(Kind.CANCEL, header).parts())
        while (left := deadline - time.monotonic()) > 0:
            socket.send_multipart(Frame(Kind.HEARTBEAT, header).parts())
            if not socket.poll(int(left * 1000) + 1):
                break
            frame = receive_frame(socket)
            if frame.kind is Kind.HEARTBEAT and frame.header.id == job_id:
                answered = True
                if frame.header.status:
                    return True
                time.sleep(CANCEL_INTERVAL)
        if not answered:
            raise Unavailable("the engine does not answer")
        return False

    def _forget(self, header: Header) -> None:
        """Tell the engine that nobody waits for this job any more."""
        self._socket().send_multipart(Frame(Kind.CANCEL, Header(id=header.id)).parts())

    def _header(self, name: str, timeout: float | None) -> Header:
        context = current.get()
        deadline = None if timeout is None else time.monotonic() + timeout
        parent = ""
        if context is not None:
            parent = context.header.id
            limits = [limit for limit in (deadline, context.header.deadline) if limit is not None]
            deadline = min(limits) if limits else None
        job, caller, client = new_id(), self._caller, origin.get()
        if client is not None:
            client.note(job)
            caller = msgspec.structs.replace(caller, peer=client.peer)
        return Header(id=job, name=name, parent=parent, deadline=deadline, caller=caller)

    def _ask(self, header: Header, body: bytes, on_status: OnStatus | None, patience: float) -> bytes:
        socket, alarm = self._socket(), _alarm()
        socket.send_multipart(Frame(Kind.JOB, header, body).parts())
        heard = began = time.monotonic()
        while True:
            now = time.monotonic()
            if _is_late(header):
                raise Unavailable(f"{header.name}: no answer before the deadline")
            if now - heard > patience:
                raise EngineSilent(f"{header.name}: the engine does not answer")
            _check(header)
            pause = HEARTBEAT_INTERVAL if now - began < LONG or alarm is None else min(LONG_INTERVAL, patience / 2)
            limits = [pause, heard + patience - now]
            left = min(limits if header.deadline is None else [*limits, header.deadline - now])
            if not _poll(socket, alarm, left):
                socket.send_multipart(Frame(Kind.HEARTBEAT, Header(id=header.id)).parts())
                continue
            frame = receive_frame(socket)
            if frame.header.id != header.id:
                continue  # an answer to a job this thread gave up
            heard = time.monotonic()
            if frame.kind is Kind.RESULT:
                if frame.header.status:
                    raise frame.error()
                return frame.body
            if frame.kind is Kind.STATUS and on_status is not None:
                on_status(decode_body(frame.body, Output))
            elif frame.kind is Kind.HEARTBEAT and frame.header.status:
                raise Unavailable(f"{header.name}: the engine was restarted and does not know this job")


class _Closing:
    """Closes a thread's socket as the thread ends, which is when what is local to it goes."""

    def __init__(self, sockets: dict[int, zmq.Socket[bytes]], ident: int, socket: zmq.Socket[bytes]) -> None:
        self._sockets, self._ident, self._socket = sockets, ident, socket

    def __del__(self) -> None:
        if self._sockets.get(self._ident) is self._socket:
            del self._sockets[self._ident]
        self._socket.close(0)


class Patience:
    """How long a job is asked again and again: ``seconds`` after it was lost, were it lost after a long time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun = self._until = 0.0

    def begin(self) -> None:
        self._begun = time.monotonic()

    def is_over(self) -> bool:
        """Note a loss, and say whether it is the last; one after work of that length begins to count anew."""
        now = time.monotonic()
        if not self._until or now - self._begun > self._seconds:
            self._until = now + self._seconds
        return now >= self._until


def _is_repeatable(name: str) -> bool:
    try:
        return job_type(name).REPEATABLE
    except JobNotFound:
        return False  # of a driver that we do not know


def _alarm() -> Alarm | None:
    """Return what tells that the present job is cancelled, if it can wake us."""
    context = current.get()
    return context.cancelled if context is not None and isinstance(context.cancelled, Alarm) else None


def _poll(socket: zmq.Socket[bytes], alarm: Alarm | None, seconds: float) -> bool:
    """Wait until there is something to receive, or the alarm is set, at most so long."""
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    if alarm is not None and not alarm.is_set():
        poller.register(alarm, zmq.POLLIN)
    return socket in dict(poller.poll(int(seconds * 1000) + 1))


def _is_late(header: Header) -> bool:
    return header.deadline is not None and time.monotonic() >= header.deadline


def _check(header: Header) -> None:
    context = current.get()
    if context is not None and context.cancelled.is_set():
        raise Cancelled(f"{header.name}: cancelled")
