"""Load on an API, and what it takes of processes: latencies, processor time, memory. For the modules of `make bench`.

Clients are processes of their own, each with one connection that it keeps. ``per core``: answers for each second of
processor time that the engine's processes took, whatever the machine did besides.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Load", "cpu_seconds", "descendants", "measure", "pss"]

TICK = os.sysconf("SC_CLK_TCK")


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
        with suppress(OSError):  # the thread has ended
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
