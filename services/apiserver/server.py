"""Server: a worker of gunicorn's on the sockets that the arbiter owns, with many threads, and no master above it.

What gunicorn's own arbiter does is done by ours: it holds the sockets, starts workers, and ends them after their grace.
"""

from __future__ import annotations

import ctypes
import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import gunicorn.http.wsgi
import gunicorn.sock
from flask import Flask
from gunicorn.app.base import BaseApplication

from services.apiserver.activation import Latch, jobs
from services.apiserver.app import create_app
from services.apiserver.connections import MAX_HEAD, Worker
from services.apiserver.metrics import Metrics, prepare
from services.apiserver.observing import Observed, Observer, log_access
from services.apiserver.policy import Policy, full, metrics_only, policies
from services.apiserver.tls import TlsListener
from services.apiserver.versions import SERVER
from shared.bus import worker as bus
from shared.bus.client import Client
from shared.bus.sockets import engine_endpoint, reader_endpoint
from shared.runtime.config import Config, ConfigError
from shared.runtime.hosts import METRICS
from shared.runtime.process import take_descriptors
from shared.runtime.tls import server_context

__all__ = ["serve"]

CONNECTIONS = 8192
CONNECTIONS_OF_A_THREAD = 4  # most wait; `Threads` are made as they are needed
DESCRIPTORS = 2  # that a connection needs on the average
KEEPALIVE = 3600  # seconds; clients pool connections and break when the server closes first
PR_SET_PDEATHSIG = 1
log = logging.getLogger("dockyard.apiserver")


def serve(config: Config, stop: threading.Event, on_stop: Callable[[Callable[[], None]], None]) -> None:
    """Run until SIGTERM, and as long after it as clients have their grace; gunicorn handles the signals from here on.

    When the arbiter dies it ends at once: nobody would end it after its clients' grace.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if not config.listen_fds:
        raise ConfigError("listen_fds: the apiserver is started by the arbiter, which gives it its sockets")
    if config.metrics_addr:
        prepare(config.run)
    gunicorn.http.wsgi.SERVER = SERVER
    server = _Server(config, stop)
    logger = server.cfg.logger_class(server.cfg)
    worker = Worker(1, os.getppid(), gunicorn.sock.create_sockets(server.cfg, logger), server, 0, server.cfg, logger)
    worker.pid = os.getpid()
    try:
        worker.init_process()
    except SystemExit:
        log.debug("told to end at once")
    server.end_bus()
    _end()


def _end() -> None:
    """End, whatever threads still do for clients whose grace is over: an exit would wait for them."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


class _Server(BaseApplication):
    """gunicorn, configured here and nowhere else. ``hosts``: by where a listener is bound, which host it is.

    ``stop``: set if a signal has come before the worker has taken these over.
    """

    def __init__(self, config: Config, stop: threading.Event) -> None:
        self.dockyard, self.stop = config, stop
        self.policies: list[Policy] = []  # by number of a host
        self.leave: Callable[[], None] = lambda: None  # tells the engine of it
        self.end_bus: Callable[[], None] = lambda: None
        listening = zip(config.listen_fds, config.listen_hosts, strict=True)
        self.hosts = {_address(descriptor): index for descriptor, index in listening}
        super().__init__()

    def load_config(self) -> None:
        connections = _connections()
        settings: dict[str, Any] = {
            "bind": [f"fd://{descriptor}" for descriptor in self.dockyard.listen_fds],
            "threads": connections // CONNECTIONS_OF_A_THREAD,
            "worker_connections": connections,
            "keepalive": KEEPALIVE,
            "graceful_timeout": math.ceil(
                self.dockyard.stream_grace
            ),  # a stop of the whole stack does not wait for that
            "limit_request_line": 0,  # `Worker` limits the head as a whole
            "limit_request_field_size": MAX_HEAD,
            "limit_request_fields": 1000,
            "loglevel": "warning",
            "post_worker_init": _prepare_worker,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Make the application, and register it with the engine. Errors: ConfigError."""
        endpoint = engine_endpoint(self.dockyard.run)
        latch = Latch()
        reader = Client(reader_endpoint(self.dockyard.run), "apiserver")
        app = create_app(Client(endpoint, "apiserver"), reader, latch, self.dockyard.origins)
        self.policies = policies(self.dockyard, app)
        observe(app, self.dockyard)
        worker = bus.Worker(endpoint, "apiserver", latch, jobs, pool=True, threads=2)
        self.leave = worker.leave
        self.end_bus = bus.serve_in_thread(worker, threading.Event())
        return app


def observe(app: Flask, config: Config) -> None:
    """Have requests counted and logged, as far as that is wanted."""
    begun: list[Observer] = []
    ended: list[Observer] = []
    if config.metrics_addr:
        metrics = app.extensions["dockyard.metrics"] = Metrics()
        begun.append(metrics.begun)
        ended.append(metrics.ended)
    if config.access_log:
        ended.append(log_access)
    if ended:
        app.wsgi_app = Observed(app.wsgi_app, begun, ended)  # type: ignore[method-assign]


def _connections() -> int:
    """Return how many this process may have at a time."""
    return min(CONNECTIONS, take_descriptors() // DESCRIPTORS)


def _prepare_worker(worker: Any) -> None:
    _set_up_listeners(worker)
    worker.on_leave = worker.app.leave
    if worker.app.stop.is_set():
        worker.handle_exit(signal.SIGTERM, None)


def _set_up_listeners(worker: Any) -> None:
    """Have the worker accept on TCP what is decrypted, unix sockets stay plain; and give each listener its policy."""
    config: Config = worker.app.dockyard
    known = {METRICS: metrics_only, **dict(enumerate(worker.app.policies))}
    by_address = {address: known[index] for address, index in worker.app.hosts.items() if index in known}
    context = server_context(config) if config.serves_tls else None
    sockets: list[Any] = []
    for listener in worker.sockets:
        policy = by_address.get(listener.getsockname(), full)
        if context is None or listener.family == socket.AF_UNIX or policy is metrics_only:
            sockets.append(listener)
        else:
            sockets.append(TlsListener(listener, context))
        worker.policies[sockets[-1]] = policy
    worker.sockets = sockets


def _address(descriptor: int) -> Any:
    """Return where a listening socket is bound: no two are bound to the same."""
    with socket.socket(fileno=os.dup(descriptor)) as listener:
        return listener.getsockname()
