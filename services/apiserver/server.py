"""Server: gunicorn on the sockets that the arbiter owns, one worker process with many threads."""

from __future__ import annotations

import ctypes
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import gunicorn.http.wsgi
from flask import Flask
from gunicorn.app.base import BaseApplication

from services.apiserver.activation import Latch, jobs
from services.apiserver.app import create_app
from services.apiserver.connections import DRAIN_TIME, MAX_HEAD, Worker
from services.apiserver.metrics import Metrics, prepare
from services.apiserver.observing import Observed, Observer, log_access
from services.apiserver.policy import full, metrics_only, policies
from services.apiserver.tls import TlsListener
from services.apiserver.versions import SERVER
from shared.bus import worker as bus
from shared.bus.bus import FakeBus
from shared.bus.client import Client
from shared.bus.sockets import engine_endpoint, reader_endpoint
from shared.runtime.config import Config, ConfigError
from shared.runtime.hosts import METRICS
from shared.runtime.process import take_descriptors
from shared.runtime.tls import server_context

__all__ = ["serve"]

CONNECTIONS = 8192
CONNECTIONS_OF_A_THREAD = 4  # most wait; threads are made as they are needed, and one that waits costs 30 kB
DESCRIPTORS = 2  # that a connection needs on the average
KEEPALIVE = 3600  # seconds; clients pool connections and break when the server closes first
PR_SET_PDEATHSIG = 1
log = logging.getLogger("dockyard.apiserver")


def serve(config: Config, stop: threading.Event, on_stop: Callable[[Callable[[], None]], None]) -> None:
    """Run until SIGTERM; gunicorn handles the signals from here on.

    When the arbiter dies it ends at once, and its worker with it: nobody would end them after their clients' grace.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if not config.listen_fds:
        raise ConfigError("listen_fds: the apiserver is started by the arbiter, which gives it its sockets")
    policies(config, create_app(FakeBus({}), FakeBus({}), Latch()))  # a wrong one is an error of the configuration
    if config.metrics_addr:
        prepare(config.run)
    gunicorn.http.wsgi.SERVER = SERVER
    _Server(config).run()


class _Server(BaseApplication):
    """gunicorn, configured here and nowhere else. ``hosts``: by where a listener is bound, which host it is."""

    def __init__(self, config: Config) -> None:
        self.dockyard = config
        listening = zip(config.listen_fds, config.listen_hosts, strict=True)
        self.hosts = {_address(descriptor): index for descriptor, index in listening}
        super().__init__()

    def load_config(self) -> None:
        connections = _connections()
        settings: dict[str, Any] = {
            "bind": [f"fd://{descriptor}" for descriptor in self.dockyard.listen_fds],
            "workers": 1,
            "worker_class": Worker,
            "threads": connections // CONNECTIONS_OF_A_THREAD,
            "worker_connections": connections,
            "keepalive": KEEPALIVE,
            "timeout": 0,  # a stream may be silent for ever
            "graceful_timeout": math.ceil(
                self.dockyard.stream_grace
            ),  # a stop of the whole stack does not wait for that
            "limit_request_line": 0,  # `Worker` limits the head as a whole
            "limit_request_field_size": MAX_HEAD,
            "limit_request_fields": 1000,
            "loglevel": "warning",
            "when_ready": _adapt,
            "post_fork": _die_with_parent,
            "post_worker_init": _set_up_listeners,
            "control_socket_disable": True,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Make the application, in the worker process, and register it with the engine."""
        endpoint = engine_endpoint(self.dockyard.run)
        latch = Latch()
        bus.serve_in_thread(bus.Worker(endpoint, "apiserver", latch, jobs, pool=True, threads=2), threading.Event())
        reader = Client(reader_endpoint(self.dockyard.run), "apiserver")
        app = create_app(Client(endpoint, "apiserver"), reader, latch, self.dockyard.origins)
        observe(app, self.dockyard)
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


def _adapt(arbiter: Any) -> None:
    """gunicorn unlinks a unix socket when it stops, unless it believes that systemd gave it.

    SIGUSR1 says that a SIGTERM is to come in an upgrade: what clients have open then is not cut off.
    """
    arbiter.systemd = True
    arbiter.handle_usr1 = partial(_take_time, arbiter)


def _take_time(arbiter: Any) -> None:
    arbiter.cfg.set("graceful_timeout", DRAIN_TIME)
    arbiter.kill_workers(signal.SIGUSR1)


def _die_with_parent(_arbiter: Any, _worker: Any) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:
        os._exit(0)


def _set_up_listeners(worker: Any) -> None:
    """Have the worker accept on TCP what is decrypted, unix sockets stay plain; and give each listener its policy."""
    config: Config = worker.app.dockyard
    made = policies(config, worker.app.callable)
    known = {METRICS: metrics_only, **dict(enumerate(made))}
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
