"""Connections: gunicorn's threads, but a connection gets one only when the head of a request has come as a whole.

So a client that is slow, or says nothing, costs a descriptor and no thread; and what is no HTTP is refused as the
API refuses: `{"message": …}`. All that waits is on one poller, in the worker's main thread, which blocks nowhere.

| what                           | how much                                                     |
|--------------------------------|--------------------------------------------------------------|
| head of a request              | `MAX_HEAD` bytes, as Go's server has it; 431 beyond          |
| time from its first byte on    | `HEAD_TIME`; then the connection is closed                   |
| connections                    | ``worker_connections``; then the longest idle one makes room |
| descriptors                    | none left: no accept for `SCARCITY`, what is there goes on   |
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from selectors import EVENT_READ
from typing import Any

import gunicorn.util
from gunicorn.http import errors
from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER, TConn, ThreadWorker

from services.apiserver.policy import Policy, full, policy_of_connection
from services.apiserver.tls import Peer
from services.apiserver.versions import COMMON_HEADERS, SERVER, error_body
from shared.bus.context import Origin, origin
from shared.runtime.threads import Threads

__all__ = ["DRAIN_TIME", "MAX_HEAD", "Connection", "Worker"]

log = logging.getLogger("dockyard.apiserver")

MAX_HEAD = 1 << 20  # bytes
HEAD_TIME = 30.0  # seconds
IDLE_TIME = 3600.0  # seconds without a first byte
DRAIN_TIME = 7 * 24 * 3600  # seconds that connections may last when their worker is replaced in an upgrade
KEPT_THREADS = 8  # that stay, whatever there is to do
SCARCITY = 0.5  # seconds
SEND_TIME = 5.0  # seconds that a client may take for the answer that refuses it
CHUNK = 1 << 16
GONE = (errno.EAGAIN, errno.ECONNABORTED)  # accept(2): whoever was about to connect is not there any more
SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
ENDS = (b"\r\n\r\n", b"\n\n")  # the second is refused, but at once
STATUS = {
    errors.LimitRequestLine: 414,
    errors.LimitRequestHeaders: 431,
    errors.ExpectationFailed: 417,
    errors.UnsupportedTransferCoding: 501,
}


class Connection(TConn):
    """``received``: what came that no parser has seen yet. ``policy``: of the listener that it came by."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.policy: Policy = full
        self.credentials = ""
        self.received = bytearray()
        self.deadline = 0.0  # monotonic, of the head that is awaited

    @property
    def peer(self) -> str:
        """Say who is at the other end, as `Caller.peer`; with TLS, once hands have been shaken."""
        return self.credentials or str(self.client if isinstance(self.client, Peer) else Peer(self.client))

    def receive(self) -> bool:
        """Take what has come; True when there is work: a whole head, one that is too long, or the end."""
        while True:
            searched = max(0, len(self.received) - 3)
            try:
                data = self.sock.recv(CHUNK)
            except BlockingIOError:
                return False
            except OSError:
                return True
            self.received += data
            if not data or len(self.received) > MAX_HEAD or any(self.received.find(end, searched) >= 0 for end in ENDS):
                return True


class Worker(ThreadWorker):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._idle: dict[Connection, None] = {}  # no byte of a first request has come; the longest idle one first
        self._begun: dict[Connection, None] = {}  # a part of a head has come
        self._scarce_until = 0.0
        self.policies: dict[Any, Policy] = {}  # by listener
        self.on_leave: Callable[[], None] = lambda: None

    def get_thread_pool(self) -> Threads:
        return Threads("request", self.cfg.threads, kept=KEPT_THREADS)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: the engine hears that this worker's end, some time from now, is no loss."""
        super().handle_exit(sig, frame)
        self.on_leave()

    def handle_usr1(self, sig: int, frame: Any) -> None:
        """Take `DRAIN_TIME` at the end: the SIGTERM that is to come is an upgrade's, which cuts nobody off."""
        self.cfg.set("graceful_timeout", DRAIN_TIME)

    # -- in the main thread

    def accept(self, listener: Any) -> None:
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in SCARCE:
                log.warning("no connection accepted error=%s", error.strerror)
                self._scarce_until = time.monotonic() + SCARCITY
                self.set_accept_enabled(False)
            elif error.errno not in GONE:
                raise
            return
        self.nr_conns += 1
        if self.nr_conns >= self.worker_connections:
            self._make_room()
        connection = Connection(self.cfg, client, address, listener.getsockname())
        connection.policy = self.policies.get(listener, full)
        connection.credentials = "" if isinstance(address, tuple) else credentials(client)
        self._await_head(connection)

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled and time.monotonic() >= self._scarce_until)

    def _make_room(self) -> None:
        """Close the connection that has been idle for the longest time, if there is one."""
        if self._idle:
            self._forget(next(iter(self._idle)))
        elif self.keepalived_conns:
            connection = self.keepalived_conns.popleft()
            self.poller.unregister(connection.sock)
            self._close(connection)

    def enqueue_req(self, conn: Connection) -> None:
        """Await a further request on a connection."""
        conn.sock.setblocking(False)
        conn.received += conn.parser.unreader.take_buffered()
        whole = any(end in conn.received for end in ENDS)
        self._submit(conn) if whole else self._await_head(conn)

    def _await_head(self, conn: Connection) -> None:
        if conn.receive():
            self._proceed(conn)
        else:
            self.poller.register(conn.sock, EVENT_READ, partial(self._on_readable, conn))
            self._note(conn)

    def _note(self, conn: Connection) -> None:
        begun = bool(conn.received)
        conn.deadline = time.monotonic() + (HEAD_TIME if begun else IDLE_TIME)
        (self._begun if begun else self._idle)[conn] = None

    def _on_readable(self, conn: Connection, _socket: socket.socket) -> None:
        if conn.receive():
            self._remove(conn)
            self._proceed(conn)
        elif conn in self._idle:
            del self._idle[conn]
            self._note(conn)

    def _proceed(self, conn: Connection) -> None:
        self._submit(conn) if conn.received else self._close(conn)

    def _submit(self, conn: Connection) -> None:
        future = self.tpool.submit(self.handle, conn)
        future.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def _remove(self, conn: Connection) -> None:
        self.poller.unregister(conn.sock)
        self._idle.pop(conn, None)
        self._begun.pop(conn, None)

    def _forget(self, conn: Connection) -> None:
        self._remove(conn)
        self._close(conn)

    def _close(self, conn: Connection) -> None:
        self.nr_conns -= 1
        conn.close()

    def murder_pending(self) -> None:
        """Close the connections on which a head was awaited too long; in a worker that is to end, that is soon."""
        now = time.monotonic()
        if not self.alive:
            for conn in self._idle:
                conn.deadline = min(conn.deadline, now + STOP_KEEPALIVE_LINGER)
        for waiting in (self._idle, self._begun):
            while waiting and (conn := next(iter(waiting))).deadline <= now:
                self._forget(conn)

    def _cap_keepalive(self, deadline: float) -> None:
        """This worker ends: close what has asked for nothing, as gunicorn does what asks for nothing more."""
        super()._cap_keepalive(deadline)
        for conn in self._idle:
            conn.deadline = min(conn.deadline, deadline)

    def finish_request(self, conn: Connection, fs: Any) -> None:
        """Keep the connection for a further request, or take note that its thread has closed it."""
        if not fs.cancelled() and fs.exception() is None and fs.result():
            super().finish_request(conn, fs)
        else:
            self._close(conn)

    # -- in the thread of a request

    def handle(self, conn: Connection) -> bool:
        """Answer a request; False: the connection is closed. Closing waits for the client, so it is done here."""
        conn.data_ready = True
        conn.init()
        conn.sock.setblocking(True)
        received, conn.received = bytes(conn.received), bytearray()
        conn.parser.unreader.unread(received)
        policy_of_connection.set(conn.policy)
        origin.set(Origin(conn.peer))
        if len(received) > MAX_HEAD and not any(end in received for end in ENDS):
            self.handle_error(None, conn.sock, conn.client, errors.LimitRequestHeaders("the head is too long"))
        elif super().handle(conn):
            return True
        gunicorn.util.close_graceful(conn.sock)
        return False

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Refuse what is no request; anything else is a bug."""
        if isinstance(exc, errors.ParseException):
            status, message = STATUS.get(type(exc), 400), f"malformed request: {exc}"
            log.info("request refused client=%s error=%s", addr, exc)
        else:
            status, message = 500, "internal error, see the log of the apiserver"
            log.error("request failed", exc_info=exc)
        try:
            client.settimeout(SEND_TIME)
            client.sendall(_answer(status, message))
        except OSError as error:
            log.debug("the client of a refused request is gone error=%s", error)


def credentials(client: socket.socket) -> str:
    """Say who is at the other end of a unix socket (SO_PEERCRED)."""
    pid, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return f"uid={uid} pid={pid}"


def _answer(status: int, message: str) -> bytes:
    body = error_body(message)
    headers = [
        ("Server", SERVER), *COMMON_HEADERS, ("Connection", "close"), ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
    ]  # fmt: skip
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
