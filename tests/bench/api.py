"""`make bench`: the API under load, requests a second and p99, against the peers in the same run; what idles weighs."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from shared.bus.client import Client
from shared.bus.sockets import engine_endpoint
from shared.protocol import ListServices
from tests.bench.engines import Engine
from tests.bench.load import Load, descendants, measure, pss

__all__ = ["main"]

LABEL = "dockyard.bench=api"
TARGETS = {0: ("/_ping", "/version", "/containers/json?all=1"), 50: ("/containers/json?all=1",)}  # by containers
TARGETS[1000] = TARGETS[50]
CLIENTS = (1, 8)
WORKERS = (1, 2, 3, 4)
SCALED_WITHIN = 30.0  # seconds
CREATED_AT_A_TIME = 4


def main(engines: list[Engine], run: Path, seconds: float, most: int = 1000) -> None:
    """Print all tables; ``most`` containers are made. The stack at ``run`` gets its number of workers back."""
    print("\nmemory of the idle engines (PSS)")
    for engine in engines:
        _memory(engine)
    for containers, targets in TARGETS.items():
        if containers > most:
            continue
        for engine in engines:
            _create(engine, containers)
        for target in targets:
            path = target.partition("?")[0]
            _compare(engines, f"{path}, {containers} containers", target, seconds)
        _by_workers(engines[0], run, f"{path}, {containers} containers, by the number of API workers", target, seconds)
    for engine in engines:
        _remove(engine)


def _compare(engines: list[Engine], title: str, target: str, seconds: float) -> None:
    """Print a table of engines and clients, and our answers per core against each peer's."""
    rows = {
        f"{engine.name}, {clients} clients": _load(engine, target, clients, seconds)
        for clients in CLIENTS
        for engine in engines
    }
    table(title, rows)
    for peer in engines[1:]:
        for clients in CLIENTS:
            ours, theirs = (rows[f"{engine.name}, {clients} clients"].per_core for engine in (engines[0], peer))
            print(f"  per core, dockyard / {peer.name}, {clients} clients: {ours / theirs:.2f}" if theirs else "")


def _by_workers(engine: Engine, run: Path, title: str, target: str, seconds: float) -> None:
    rows: dict[str, Load] = {}
    sizes = []
    with _scaling(engine, run):
        for workers in WORKERS:
            _scale(engine, run, workers)
            sizes.append(sum(map(pss, descendants(engine.server))))
            for clients in CLIENTS:
                name = f"{workers} workers ({sizes[-1] >> 20} MiB in all), {clients} clients"
                rows[name] = _load(engine, target, clients, seconds)
    table(title, rows)
    print(f"  a worker more: {(sizes[-1] - sizes[0]) / (len(WORKERS) - 1) / (1 << 20):.1f} MiB")


@contextmanager
def _scaling(engine: Engine, run: Path) -> Iterator[None]:
    """Give the stack its number of workers back in the end."""
    before = len(_workers(engine))
    try:
        yield
    finally:
        _scale(engine, run, before)


def _scale(engine: Engine, run: Path, workers: int) -> None:
    """Have so many workers, all ready, and none that is about to leave."""
    _dockyard(run, "scale", "apiserver", str(workers))
    deadline = time.monotonic() + SCALED_WITHIN
    with closing(Client(engine_endpoint(run), "bench")) as client:
        while len(_workers(engine)) != workers or workers != sum(
            found.service == "apiserver" and found.ready for found in client.call(ListServices())
        ):
            if time.monotonic() > deadline:
                raise RuntimeError(f"there are not {workers} workers after {SCALED_WITHIN:.0f} s")
            time.sleep(0.1)


def _load(engine: Engine, target: str, clients: int, seconds: float) -> Load:
    return measure(str(engine.api), target, clients, seconds, lambda: descendants(engine.server))


def _dockyard(run: Path, *words: str) -> None:
    program = Path(sys.executable).parent / "dockyard"
    subprocess.run([program, "--run", run, *words], check=True, stdout=subprocess.DEVNULL)


def _workers(engine: Engine) -> list[int]:
    return [pid for pid in descendants(engine.server) if "services.apiserver" in _command(pid)]


def _command(pid: int) -> str:
    """Return a process's command line, empty if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""


def _memory(engine: Engine) -> None:
    sizes = {pid: pss(pid) for pid in descendants(engine.server)}
    print(f"  {engine.name:12} {sum(sizes.values()) / (1 << 20):8.1f} MiB in all, {len(sizes)} processes")
    for pid, size in sizes.items():
        print(f"    {_command(pid)[-50:]:52} {size / (1 << 20):8.1f} MiB")


def _ids(engine: Engine) -> list[str]:
    words = [*engine.command, "ps", "-aq", "--no-trunc", "--filter", f"label={LABEL}"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()


def _create(engine: Engine, count: int) -> None:
    """Have so many containers that do not run."""

    def create(_: int) -> None:
        engine.do("create", *engine.options, "--label", LABEL, "--network", "none", "busybox", "true")

    with ThreadPoolExecutor(CREATED_AT_A_TIME) as pool:
        list(pool.map(create, range(count - len(_ids(engine)))))


def _remove(engine: Engine) -> None:
    ids = _ids(engine)
    for start in range(0, len(ids), 100):
        engine.do("rm", "-f", *ids[start : start + 100])


def table(title: str, rows: dict[str, Load]) -> None:
    print(f"\n{title}")
    for name, load in rows.items():
        median, p99 = statistics.median(load.latencies) * 1000, load.p99 * 1000
        print(
            f"  {name:44} {load.rate:8.0f}/s   median {median:7.2f} ms   p99 {p99:8.2f} ms   "
            f"per core {load.per_core:8.0f}/s"
        )
