"""`python -m tests.bench.endpoints`: what a ready endpoint, many ports and networks cost the netdriver alone, in ms.

An endpoint is namespace, veth pair, bridge port, address, route and rules. Processor time is the figure to compare: it
depends less on what else the machine does. In a network namespace of its own; as root.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from services.netdriver.netdriver import NetDriver
from shared.protocol import BridgeNetwork, MakeNetwork, PortBinding
from shared.runtime.process import take_descriptors
from tests.unit.netdriver.rig import container, make, own_netns, want

ROUNDS, OTHERS, AT_A_TIME, PORTS, NETWORKS = 40, 500, 8, 10_000, 100
PAUSE = 0.6  # seconds
MEMORY = "/dev/shm"  # as the run directory is on a machine that systemd has booted
DUAL = "ab" * 32


class Samples:
    """Wall-clock times of each, and the process's time for all."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._walls: list[float] = []
        self._processor, self._began = 0.0, time.process_time()

    def time(self, function: Callable[[], Any]) -> None:
        began = time.perf_counter()
        function()
        self._walls.append((time.perf_counter() - began) * 1000)

    def show(self) -> None:
        cost = (time.process_time() - self._began) * 1000 / len(self._walls)
        print(f"  {self._title:54} median {statistics.median(self._walls):8.2f}   processor {cost:7.2f}", flush=True)


def each(title: str, functions: Sequence[Callable[[], Any]]) -> None:
    samples = Samples(title)
    for function in functions:
        samples.time(function)
    samples.show()


def rounds(driver: NetDriver, title: str, **options: Any) -> None:
    """Make endpoints one at a time, give them back, then eight at a time: after a pause, and without one."""

    def allocation(number: int) -> Callable[[], Any]:
        ports = {"80/tcp": [PortBinding(host_port=str(30000 + number))]}
        job = msgspec.structs.replace(want(number), ports=ports, **options)
        return lambda: driver.allocate(job)

    numbers = range(1, ROUNDS + 1)
    each(f"{title}, a port", [allocation(number) for number in numbers])
    each(f"{title}, given back", [lambda number=number: driver.release(container(number), None) for number in numbers])  # type: ignore[misc]
    for pause, how in ((PAUSE, "at a time"), (0.0, "at a time, without end")):
        samples = Samples(f"{title}, {AT_A_TIME} {how}")
        for first in range(1, ROUNDS + 1, AT_A_TIME if pause else ROUNDS):
            time.sleep(pause)
            with ThreadPoolExecutor(AT_A_TIME) as pool:
                some = range(first, first + (AT_A_TIME if pause else ROUNDS))
                list(pool.map(lambda number, samples=samples: samples.time(allocation(number)), some))
        samples.show()
        for number in numbers:
            driver.release(container(number), None)


def main() -> int:
    take_descriptors()
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory, own_netns(Path(directory)):
        driver = make(Path(directory))
        driver.init({})
        threading.Thread(target=driver.spares.serve, args=(threading.Event(),), daemon=True).start()
        driver.make_network(MakeNetwork(network=BridgeNetwork(id=DUAL, name="dual", ipv6=True)))
        rounds(driver, "default bridge")
        rounds(driver, "network of both families with DNS", network=DUAL)
        for number in range(OTHERS):
            driver.allocate(want(100_000 + number))
        rounds(driver, f"default bridge, {OTHERS} others there")
        for number in range(OTHERS):
            driver.release(container(100_000 + number), None)
        wanted = {f"{number}/tcp": [PortBinding(host_port=str(number))] for number in range(20000, 20000 + PORTS)}
        many = msgspec.structs.replace(want(1000), ports=wanted)
        each(f"{PORTS} ports of one container", [lambda: driver.allocate(many)])
        rounds(driver, "default bridge beside them")
        each("those ports, given back", [lambda: driver.release(container(1000), None)])
        networks = [BridgeNetwork(id=f"{number:064x}"[::-1], name=f"n{number}") for number in range(NETWORKS)]
        each(
            f"{NETWORKS} networks", [lambda one=one: driver.make_network(MakeNetwork(network=one)) for one in networks]
        )  # type: ignore[misc]
        each("init_networkdriver with them", [lambda: driver.init({}, networks)])
        driver.init({})
    return 0


if __name__ == "__main__":
    sys.exit(main())
