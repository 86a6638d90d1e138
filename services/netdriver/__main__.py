"""The netdriver: bridges, veth pairs, addresses and published ports."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

from services.netdriver.checking import check, check_change
from services.netdriver.firewall import Firewall
from services.netdriver.handlers import drivers, jobs
from services.netdriver.netdriver import NetDriver
from shared.bus.sockets import engine_endpoint
from shared.bus.worker import Worker
from shared.runtime import departure
from shared.runtime.config import Config
from shared.runtime.process import run, take_descriptors


def serve(config: Config, stop: threading.Event, on_stop: Callable[[Callable[[], None]], None]) -> None:
    config = check(config)
    take_descriptors()  # one for each published port
    firewall = Firewall.of(config)
    threading.Thread(target=firewall.watch, args=(stop,), name="firewall", daemon=True).start()
    netdriver = NetDriver(config, drivers(config, firewall), firewall)
    netdriver.resolvers.adopt()
    threading.Thread(target=netdriver.resolvers.serve, args=(stop,), name="resolvers", daemon=True).start()
    threading.Thread(target=netdriver.spares.serve, args=(stop,), name="spares", daemon=True).start()
    worker = Worker(engine_endpoint(config.run), "netdriver", netdriver, jobs)
    on_stop(worker.notice)
    worker.serve(stop, shutdown_timeout=config.shutdown_timeout)
    if departure.is_announced(config.run):
        netdriver.depart()


if __name__ == "__main__":
    sys.exit(run("netdriver", serve, check_change))
