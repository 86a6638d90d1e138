from __future__ import annotations

import sys
import threading
from collections.abc import Callable

from services.builder.handlers import Builder, jobs
from shared.bus.client import Client
from shared.bus.sockets import engine_endpoint
from shared.bus.worker import Worker
from shared.runtime.config import Config
from shared.runtime.process import run

THREADS = 64  # builds at the same time; those beyond wait for their turn


def serve(config: Config, stop: threading.Event, on_stop: Callable[[Callable[[], None]], None]) -> None:
    endpoint = engine_endpoint(config.run)
    builder = Builder(config, Client(endpoint, "builder"))
    worker = Worker(endpoint, "builder", builder, jobs, threads=THREADS)
    on_stop(builder.cancel_all)
    on_stop(worker.notice)
    worker.serve(stop, shutdown_timeout=config.shutdown_timeout)


if __name__ == "__main__":
    sys.exit(run("builder", serve))
