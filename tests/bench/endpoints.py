"""`python -m tests.bench.endpoints`: milliseconds of a ready endpoint, and of many ports, of the netdriver alone.

An endpoint is namespace, veth pair, bridge port, address, route and rules. In a network namespace of its own; as root.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
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

ROUNDS, OTHERS, AT_A_TIME, PORTS = 40, 500, 8, 10_000
NETWORK = "ab" * 32


def timed(function: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    function()
    return (time.perf_counter() - begun) * 1000


def show(what: str, samples: Sequence[float]) -> None:
    ordered = sorted(samples)
    p90 = ordered[int(len(ordered) * 0.9)]
    print(f"  {what:54} median {statistics.median(ordered):7.2f}  p90 {p90:7.2f}", flush=True)


def rounds(driver: NetDriver, title: str, **options: Any) -> None:
    """Make one at a time, then eight at a time, and give each back."""

    def allocate(number: int, port: str) -> float:
        ports = {"80/tcp": [PortBinding(host_port=port)]} if port else {}
        job = msgspec.structs.replace(want(number), ports=ports, **options)
        return timed(lambda: driver.allocate(job))

    for port in ("", "a port"):
        one = []
        for number in range(ROUNDS):
            one.append(allocate(number + 1, str(30000 + number) if port else ""))
            driver.release(container(number + 1), None)
        show(f"{title}{', ' + port if port else ''}", one)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        show(
            f"{title}, a port, {AT_A_TIME} at a time",
            list(pool.map(lambda n: allocate(n, str(30000 + n)), range(1, ROUNDS + 1))),
        )
    releases = [timed(lambda number=number: driver.release(container(number), None)) for number in range(1, ROUNDS + 1)]  # type: ignore[misc]
    show(f"{title}, release", releases)


def main() -> int:
    take_descriptors()
    with tempfile.TemporaryDirectory() as directory, own_netns(Path(directory)):
        driver = make(Path(directory), ipv6=False)
        driver.init({})
        driver.make_network(MakeNetwork(network=BridgeNetwork(id=NETWORK, name="dual", ipv6=True)))
        print("ready endpoint, in ms")
        rounds(driver, "default bridge")
        rounds(driver, "network of both families with DNS", network=NETWORK)
        for number in range(OTHERS):
            driver.allocate(want(100_000 + number))
        rounds(driver, f"default bridge, {OTHERS} others there")
        for number in range(OTHERS):
            driver.release(container(100_000 + number), None)
        wanted = {f"{number}/tcp": [PortBinding(host_port=str(number))] for number in range(20000, 20000 + PORTS)}
        job = msgspec.structs.replace(want(1), ports=wanted)
        print(f"{PORTS} ports, in ms")
        show("published", [timed(lambda: driver.allocate(job))])
        rounds(driver, "default bridge beside them")
        show("taken back", [timed(lambda: driver.release(container(1), None))])
        networks = [BridgeNetwork(id=f"{number:064x}"[::-1], name=f"n{number}") for number in range(100)]
        print("networks, in ms")
        show("created", [timed(lambda one=one: driver.make_network(MakeNetwork(network=one))) for one in networks])  # type: ignore[misc]
        show("default bridge, 100 networks there", [timed(lambda: driver.allocate(want(1)))])
        driver.release(container(1), None)
        driver.init({})
    return 0


if __name__ == "__main__":
    sys.exit(main())
