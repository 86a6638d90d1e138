"""`make bench`: images in and out with the docker command (podman: its own), ours and the peers' in the same run.

All pull from, and push to, Debian's docker-registry on a loopback of their own, with one store. For each engine: the
median of seconds that a user waits, and of CPU seconds that the engine and its client take for it; what the kernel
writes back later is in neither. Each engine in turn, so that the machine's moods meet them alike.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.debian import NAME, make_archive
from tests.bench.engines import Engine, beside, engines
from tests.bench.unpacking import unpack_speed
from tests.registries import docker_registry, free_port

__all__ = ["main"]

TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Cost:
    """Seconds."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


@dataclass
class Registry:
    """Where the engines of one network namespace push to and pull from."""

    host: str

    @property
    def image(self) -> str:
        return f"{self.host}/{NAME}:latest"


def main(found: list[Engine], directory: Path, rounds: int) -> None:
    """Print a table: a line for each thing, a column for each engine; a cell is seconds (CPU seconds)."""
    archive = directory / "image.tar"
    layers = make_archive(archive)
    size = sum(layer.stat().st_size for layer in layers) / 1e6
    print(
        f"\nan image of {len(layers)} layers, {size:.0f} MB packed: seconds waited (CPU seconds of engine and client)"
    )
    print(f"  {'':10}" + "".join(f"{engine.name:>18}" for engine in found))
    with ExitStack() as stack:
        store = directory / "registry"
        registries = {}
        for engine in found:
            place = docker_registry(store, port=free_port(), inside=engine.inside)
            registries[engine.name] = Registry(stack.enter_context(place))
        costs: dict[str, dict[str, Cost]] = {
            step: {engine.name: Cost() for engine in found} for step in ("load", "save", "push", "pull")
        }
        for number in range(rounds + 1):
            for engine in found:
                _round(engine, registries[engine.name], archive, store, costs, keep=number > 0)
        for step, by_engine in costs.items():
            _line(step, by_engine)
    print(f"  the graphdriver's peak memory: {_peak(found[0]):.0f} MiB")
    unpack_speed(layers, directory, rounds)


def _round(
    engine: Engine, registry: Registry, archive: Path, store: Path, costs: dict[str, dict[str, Cost]], *, keep: bool
) -> None:
    image = registry.image
    saved = archive.with_name(f"saved-{engine.name}.tar")
    _measure(engine, lambda: engine.do("load", "-qi", str(archive)), costs["load"], keep=keep)
    _measure(engine, lambda: engine.do("save", "-o", str(saved), NAME), costs["save"], keep=keep)
    saved.unlink()
    engine.do("tag", NAME, image)
    shutil.rmtree(store / "data", ignore_errors=True)
    _measure(engine, lambda: engine.do("push", *engine.insecure, image), costs["push"], keep=keep)
    engine.do("rmi", "-f", image, NAME)
    _measure(engine, lambda: engine.do("pull", *engine.insecure, image), costs["pull"], keep=keep)
    engine.do("rmi", "-f", image)


def _measure(engine: Engine, action: Callable[[], None], costs: dict[str, Cost], *, keep: bool) -> None:
    """``keep``: false for the round that warms up."""
    cpu, began = _cpu(engine), time.perf_counter()
    action()
    wall = time.perf_counter() - began
    if keep:
        costs[engine.name].wall.append(wall)
        costs[engine.name].cpu.append(_cpu(engine) - cpu)


def _cpu(engine: Engine) -> float:
    """Return the CPU seconds of a daemon and its children, ended ones too, and of all clients so far."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    ticks = sum(sum(map(int, _stat(pid)[11:15])) for pid in _family(engine.daemon)) if engine.daemon else 0
    return children.ru_utime + children.ru_stime + ticks / TICK


def _stat(pid: int) -> list[str]:
    """Return the fields of proc_pid_stat(5) from the third one on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["0"] * 20


def _family(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            parents.setdefault(int(_stat(int(path.name))[1]), []).append(int(path.name))
    found, pending = [pid], [pid]
    while pending:
        children = parents.get(pending.pop(), [])
        found += children
        pending += children
    return found


def _peak(engine: Engine) -> float:
    """Return MiB that the graphdriver had resident at most."""
    for pid in _family(engine.daemon):
        if b"services.graphdriver\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
            status = Path(f"/proc/{pid}/status").read_text()
            return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))) / 1024
    raise RuntimeError("no graphdriver")


def _line(title: str, by_engine: dict[str, Cost]) -> None:
    wall = {name: statistics.median(cost.wall) for name, cost in by_engine.items()}
    cpu = {name: statistics.median(cost.cpu) for name, cost in by_engine.items()}
    cells = "".join(f"{wall[name]:9.2f} ({cpu[name]:6.2f})" for name in by_engine)
    ours, *peers = by_engine
    ratios = "".join(f"   / {peer}: {wall[ours] / wall[peer]:.2f} ({cpu[ours] / cpu[peer]:.2f})" for peer in peers)
    print(f"  {title:10}{cells}{ratios}", flush=True)


def _alone() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("/run/dockyard"))
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ.pop("DOCKER_HOST", None)
    with ExitStack() as stack:
        socket = arguments.run / "docker.sock"
        main(engines(stack, socket), beside(stack, socket), arguments.rounds)


if __name__ == "__main__":
    _alone()
