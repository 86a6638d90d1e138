from __future__ import annotations

import sys
import threading
from collections.abc import Callable

from services.execdriver.cgroups import complete_hierarchies, remove_empty
from services.execdriver.containers import Containers
from services.execdriver.exec import Execs
from services.execdriver.handlers import ExecDriver, jobs
from services.execdriver.health import Checks
from services.execdriver.placement import placement
from services.execdriver.reports import Reports
from services.execdriver.runtimes import runtimes
from shared.bus.client import Client
from shared.bus.sockets import engine_endpoint
from shared.bus.tickets import TicketServer
from shared.bus.worker import Worker
from shared.runtime import departure
from shared.runtime.config import Config
from shared.runtime.process import run
from shared.runtime.slices import PARENTS

OWN_PARENT = PARENTS["cgroupfs"]


def serve(config: Config, stop: threading.Event, on_stop: Callable[[Callable[[], None]], None]) -> None:
    endpoint = engine_endpoint(config.run)
    complete_hierarchies()
    runtime = runtimes(config)
    bus = Client(endpoint, "execdriver")
    reports = Reports(bus)
    places = placement(config)
    containers = Containers(config, runtime, reports, Checks(bus), places)
    execs = Execs(config, runtime, reports, places)
    driver = ExecDriver(containers, execs, TicketServer(config.run / "execdriver.tickets"))
    worker = Worker(endpoint, "execdriver", driver, jobs)
    on_stop(worker.notice)
    worker.serve(stop, shutdown_timeout=config.shutdown_timeout)
    containers.close()
    if departure.is_announced(config.run) and config.cgroup_parent == OWN_PARENT:  # another is an administrator's
        remove_empty(OWN_PARENT)


if __name__ == "__main__":
    sys.exit(run("execdriver", serve))
