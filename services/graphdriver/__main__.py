from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from services.graphdriver import handlers
from services.graphdriver.handlers import GraphDriver
from services.graphdriver.registry import handlers as registry
from shared.bus.client import Client
from shared.bus.handlers import Handlers
from shared.bus.sockets import engine_endpoint
from shared.bus.worker import Worker
from shared.runtime.config import Config
from shared.runtime.process import run

THREADS = 256  # an upload holds one for as long as its client takes; they are made as they are needed


def serve(config: Config, stop: threading.Event, on_stop: Callable[[Callable[[], None]], None]) -> None:
    endpoint = engine_endpoint(config.run)
    driver = GraphDriver(config, Client(endpoint, "graphdriver"), os.environ)
    worker = Worker(endpoint, "graphdriver", driver, Handlers(handlers.jobs, registry.jobs), threads=THREADS)
    on_stop(worker.notice)
    worker.serve(stop, shutdown_timeout=config.shutdown_timeout)


if __name__ == "__main__":
    sys.exit(run("graphdriver", serve))
