from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable

from services.engine.engine import serve
from shared.runtime.config import Config
from shared.runtime.process import run, take_descriptors


def start(config: Config, stop: threading.Event, on_stop: Callable[[Callable[[], None]], None]) -> None:
    take_descriptors()  # some for each thread of whoever is on the bus
    gc.set_threshold(20_000, 20, 20)  # jobs come by the thousand; the defaults cost a twentieth of the time
    asyncio.run(serve(config, stop, on_stop))


if __name__ == "__main__":
    sys.exit(run("engine", start))
