"""The reader: a process of its own that serves a `Replica` at RUN/reader.sock."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable

from services.engine.replica import Replica
from shared.bus.handlers import Handlers
from shared.bus.sockets import engine_endpoint, reader_endpoint, zmq_context
from shared.bus.worker import Worker, serve_in_thread
from shared.runtime.config import Config
from shared.runtime.process import run, take_descriptors


async def serve(config: Config, on_stop: Callable[[Callable[[], None]], None]) -> None:
    """Serve until asked to stop; to the engine it is a service that offers nothing, so that it is seen."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wake() -> None:
        loop.call_soon_threadsafe(stopped.set)

    on_stop(wake)
    replica = Replica(config)
    replica.router.bind(zmq_context(), reader_endpoint(config.run))
    registered = threading.Event()
    end = serve_in_thread(Worker(engine_endpoint(config.run), "reader", None, Handlers()), registered)
    await stopped.wait()
    end()
    replica.router.close()
    replica.store.close()


def start(config: Config, stop: threading.Event, on_stop: Callable[[Callable[[], None]], None]) -> None:
    take_descriptors()
    asyncio.run(serve(config, on_stop))


if __name__ == "__main__":
    sys.exit(run("reader", start))
