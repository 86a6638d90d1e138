"""`make bench`: what users wait for, with the docker command (podman: its own), ours and the peers' in the same run.

Medians; each engine in turn, so that the machine's moods meet them alike. Ratios below 1 are in our favour.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bench.engines import Engine

__all__ = ["main"]

MANY = 50
STREAM = 512  # MiB
LINES = 1_000_000  # of 100 bytes


def main(engines: list[Engine], rounds: int) -> None:
    """Print a table: a line for each thing, a column for each engine."""
    print(f"\nwhat users wait for\n  {'':34}" + "".join(f"{engine.name:>14}" for engine in engines))
    _line("exec true, ms", engines, _exec, rounds)
    _line(f"{MANY} starts at the same time, s", engines, _starts, 1)
    _line(f"stop and remove of {MANY}, s", engines, _removals, 1)
    _line(f"run -i, {STREAM} MiB out, MiB/s", engines, _stream, 3, better_is_more=True)
    _line("logs of 100 MB, MB/s", engines, _logs, 2, better_is_more=True)
    _line("monitor's memory per container, KiB", engines, _monitor, 1)


def _line(
    title: str,
    engines: list[Engine],
    measure: Callable[[Engine], float],
    rounds: int,
    *,
    better_is_more: bool = False,
) -> None:
    samples: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for _ in range(rounds):
        for engine in engines:
            samples[engine.name].append(measure(engine))
    medians = [statistics.median(samples[engine.name]) for engine in engines]
    best = (max if better_is_more else min)(medians[1:], default=0.0)
    ratio = ""
    if best and medians[0]:
        ratio = f"   to the best peer: {best / medians[0] if better_is_more else medians[0] / best:.2f}"
    print(f"  {title:34}" + "".join(f"{median:14.1f}" for median in medians) + ratio, flush=True)


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _exec(engine: Engine) -> float:
    name = f"bench-exec-{engine.name}"
    engine.run("-d", "--name", name, "busybox", "sleep", "1000")
    try:
        engine.do("exec", name, "true")
        return statistics.median(_timed(lambda: engine.do("exec", name, "true")) for _ in range(5)) * 1000
    finally:
        engine.do("rm", "-f", name)


def _names(engine: Engine) -> list[str]:
    return [f"bench-{number}-{engine.name}" for number in range(MANY)]


def _starts(engine: Engine) -> float:
    with ThreadPoolExecutor(MANY) as pool:
        start = [
            lambda name=name: engine.run("-d", "--name", name, "busybox", "sleep", "1000") for name in _names(engine)
        ]
        return _timed(lambda: list(pool.map(lambda one: one(), start)))


def _removals(engine: Engine) -> float:
    return _timed(lambda: engine.do("stop", "-t", "0", *_names(engine))) + _timed(
        lambda: engine.do("rm", *_names(engine))
    )


def _stream(engine: Engine) -> float:
    script = f"dd if=/dev/zero bs=1M count={STREAM} 2>/dev/null"
    words = ["run", *engine.options, "--rm", "-i", "--log-driver=none", "busybox", "sh", "-c", script]
    began = time.perf_counter()
    count = engine.bytes_of(*words)
    if count != STREAM << 20:
        raise RuntimeError(f"{engine.name}: {count} bytes of {STREAM} MiB came out")
    return STREAM / (time.perf_counter() - began)


def _logs(engine: Engine) -> float:
    name = f"bench-logs-{engine.name}"
    line = "x" * 99
    engine.run("-d", "--name", name, "busybox", "sh", "-c", f"yes {line} | head -n {LINES}")
    try:
        engine.do("wait", name)
        began = time.perf_counter()
        return engine.bytes_of("logs", name) / 1e6 / (time.perf_counter() - began)
    finally:
        engine.do("rm", "-f", name)


def _monitor(engine: Engine) -> float:
    """PSS of the monitor of a container that runs (smaps_rollup)."""
    name = f"bench-monitor-{engine.name}"
    before = _monitors()
    engine.run("-d", "--name", name, "busybox", "sleep", "1000")
    try:
        found = {pid: size for pid, size in _monitors().items() if pid not in before}
        return sum(found.values())
    finally:
        engine.do("rm", "-f", name)


def _monitors() -> dict[int, int]:
    """Return pid → KiB of all monitors that the engines know: conmon, containerd's shim."""
    found = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                if (path / "comm").read_text().startswith(("conmon", "containerd-shim", "docker-proxy")):
                    rollup = (path / "smaps_rollup").read_text()
                    found[int(path.name)] = next(int(line.split()[1]) for line in rollup.splitlines() if "Pss:" in line)
            except (OSError, StopIteration):
                continue
    return found
