"""`make bench`: the API under load: requests a second and p99, against the peers in the same run; memory of what idles.

Clients are processes of their own, each with one connection that it keeps. ``per core``: answers for each second of
processor time that the engine's processes took, whatever the machine did besides.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.engines import Engine

__all__ = ["Load", "cpu_seconds", "descendants", "idle_streams", "main", "measure", "pss"]

TICK = os.sysconf("SC_CLK_TCK")
STREAMS = 200
LABEL, NAME = "dockyard.bench=api", "dockyard-bench-api"
KINDS = (
    ("events", "GET", "/events"),
    ("logs -f", "GET", f"/containers/{NAME}/logs?follow=1&stdout=1"),
    ("wait", "POST", f"/containers/{NAME}/wait"),
    ("attach", "POST", f"/containers/{NAME}/attach?stream=1&stdout=1&stdin=1"),
)


@dataclass(frozen=True)
class Load:
    """``latencies`` in seconds, sorted."""

    seconds: float
    latencies: list[float]
    cpu: float

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def per_core(self) -> float:
        return len(self.latencies) / self.cpu if self.cpu else 0.0

    @property
    def p99(self) -> float:
        return self.latencies[int(len(self.latencies) * 0.99)]


def descendants(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += descendants(int(child))
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time that these have taken, and those of their children that they waited for."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15]))
    return total / TICK


def pss(pid: int) -> int:
    """Return the proportional set size of a process in bytes; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), 0)


def _receive(connection: socket.socket) -> None:
    """Read one answer, by its length or in chunks."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _some(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(head.decode(errors="replace"))
    lower = head.lower()
    if b"content-length:" in lower:
        left = int(lower.split(b"content-length:")[1].split(b"\r\n")[0]) - len(body)
        while left > 0:
            left -= len(_some(connection))
    else:
        tail = body
        while not tail.endswith(b"0\r\n\r\n"):
            tail = tail[-5:] + _some(connection)


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 20)
    if not data:
        raise RuntimeError("the server has closed the connection")
    return data


def _client(path: str, target: str, until: float, results: multiprocessing.Queue[list[float]]) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: docker\r\n\r\n".encode()
    latencies = []
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        while time.monotonic() < until:
            began = time.perf_counter()
            connection.sendall(request)
            _receive(connection)
            latencies.append(time.perf_counter() - began)
    results.put(latencies)


def measure(path: str, target: str, clients: int, seconds: float, pids: Callable[[], list[int]]) -> Load:
    """Ask for ``target`` for so many seconds."""
    results: multiprocessing.Queue[list[float]] = multiprocessing.Queue()
    before, began = cpu_seconds(pids()), time.monotonic()
    processes = [
        multiprocessing.Process(target=_client, args=(path, target, began + seconds, results)) for _ in range(clients)
    ]
    for process in processes:
        process.start()
    latencies = sorted(latency for _ in processes for latency in results.get(timeout=seconds + 60))
    for process in processes:
        process.join()
    return Load(time.monotonic() - began, latencies, cpu_seconds(pids()) - before)


@contextmanager
def idle_streams(path: str, count: int, targets: list[tuple[str, str]]) -> Iterator[None]:
    """Have ``count`` streams open, of (method, target) in turn, each of which has sent the head of its answer."""
    with ExitStack() as opened:
        for index in range(count):
            method, target = targets[index % len(targets)]
            connection = opened.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(30)
            connection.connect(path)
            upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n" if "/attach" in target else ""
            connection.sendall(f"{method} {target} HTTP/1.1\r\nHost: docker\r\n{upgrade}\r\n".encode())
            head = connection.recv(4096)
            if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 101")):
                raise RuntimeError(f"{target}: {head[:200]!r}")
        yield


CASES = (  # (containers, target)
    (0, "/_ping"), (0, "/version"), (0, "/containers/json?all=1"), (50, "/containers/json?all=1"),
    (1000, "/containers/json?all=1"),
)  # fmt: skip
CLIENTS = (1, 8)
WORKERS = (1, 2, 3, 4)


def main(engines: list[Engine], run: Path, seconds: float, most: int = 1000) -> None:
    """Print all tables; ``most`` containers are made. The stack at ``run`` gets its number of workers back."""
    print("\nmemory of the idle engines (PSS)")
    for engine in engines:
        _memory(engine)
    rows: dict[str, Load] = {}
    for containers, target in (case for case in CASES if case[0] <= most):
        for engine in engines:
            _create(engine, containers)
            for clients in CLIENTS:
                name = f"{target.partition('?')[0]} of {containers}, {clients} clients, {engine.name}"
                rows[name] = _load(engine, target, clients, seconds)
    table("the API under load", rows)
    rows.clear()
    before = len(_workers(engines[0]))
    for workers in WORKERS:
        _dockyard(run, "scale", "apiserver", str(workers))
        time.sleep(2)
        memory = sum(map(pss, descendants(engines[0].server))) >> 20
        for clients in CLIENTS:
            name = f"{workers} workers ({memory} MiB in all), {clients} clients"
            rows[name] = _load(engines[0], "/containers/json?all=1", clients, seconds)
    _dockyard(run, "scale", "apiserver", str(before))
    table(f"/containers/json of {min(most, 1000)}, by the number of API workers", rows)
    for engine in engines:
        _remove(engine)
    for engine in engines[:2]:
        _streams(engine)


def _load(engine: Engine, target: str, clients: int, seconds: float) -> Load:
    return measure(str(engine.api), target, clients, seconds, lambda: descendants(engine.server))


def _dockyard(run: Path, *words: str) -> None:
    program = Path(sys.executable).parent / "dockyard"
    subprocess.run([program, "--run", run, *words], check=True, stdout=subprocess.DEVNULL)


def _workers(engine: Engine) -> list[int]:
    return [pid for pid in descendants(engine.server) if "services.apiserver" in _command(pid)]


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()


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
    for _ in range(count - len(_ids(engine))):
        engine.do("create", *engine.options, "--label", LABEL, "--network", "none", "busybox", "true")


def _remove(engine: Engine) -> None:
    ids = _ids(engine)
    for start in range(0, len(ids), 100):
        engine.do("rm", "-f", *ids[start : start + 100])


def _streams(engine: Engine) -> None:
    """Print what idle streams cost, and how long a `ps` takes beside them."""
    engine.run("-di", "--label", LABEL, "--name", NAME, "busybox", "cat")
    print(f"\n{STREAMS} idle streams of each kind, {engine.name}")
    for kind, method, target in KINDS:
        before = sum(map(pss, descendants(engine.server)))
        with idle_streams(str(engine.api), STREAMS, [(method, target)]):
            after = sum(map(pss, descendants(engine.server)))
            load = _load(engine, "/containers/json", 1, 2)
        each = (after - before) / STREAMS / 1024
        print(f"  {kind:10} {each:8.1f} KiB each   ps meanwhile: p99 {load.p99 * 1000:.1f} ms")
    _remove(engine)


def table(title: str, rows: dict[str, Load]) -> None:
    print(f"\n{title}")
    for name, load in rows.items():
        median, p99 = statistics.median(load.latencies) * 1000, load.p99 * 1000
        print(
            f"  {name:44} {load.rate:8.0f}/s   median {median:7.2f} ms   p99 {p99:8.2f} ms   "
            f"per core {load.per_core:8.0f}/s"
        )
