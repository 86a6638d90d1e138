"""The embedded DNS server: names of containers in user-defined networks, at 127.0.0.11 inside each."""

from __future__ import annotations

import asyncio
import resource
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from services.netdriver.dns.handoff import socket_path
from services.netdriver.dns.names import Names
from services.netdriver.dns.server import Server
from services.netdriver.dns.upstream import Upstream
from shared.bus.handlers import Handlers
from shared.bus.sockets import engine_endpoint
from shared.bus.worker import Worker, serve_in_thread
from shared.runtime.config import Config
from shared.runtime.process import run

BACKLOG = 4


def listen(path: Path) -> socket.socket:
    """Take over the path, whoever had it before: there is one server, and the netdriver comes to the last."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(BACKLOG)
    return listener


async def serve(config: Config, on_stop: Callable[[Callable[[], None]], None]) -> None:
    """Serve until asked to stop; to the engine it is a service that offers nothing, so that it is seen."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wake() -> None:
        loop.call_soon_threadsafe(stopped.set)

    on_stop(wake)
    config.run.mkdir(mode=0o711, parents=True, exist_ok=True)
    with listen(socket_path(config.run)) as listener:
        server = Server(Names(config.run / "leases"), Upstream(), listener)
        end = serve_in_thread(Worker(engine_endpoint(config.run), "dns", None, Handlers()), threading.Event())
        await stopped.wait()
        end()
        loop.remove_reader(listener)
        await server.close()


def start(config: Config, stop: threading.Event, on_stop: Callable[[Callable[[], None]], None]) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # three descriptors for each container
    asyncio.run(serve(config, on_stop))


if __name__ == "__main__":
    sys.exit(run("dns", start))
