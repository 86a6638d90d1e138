"""Top: a live view of processes, jobs under way and containers. What does not answer is said; the rest goes on."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

from services.ctl import joblist, overview, table, units
from services.ctl.cgroups import Cgroups, Usage
from services.ctl.overview import Overview
from services.ctl.stack import Process, Stack
from shared.bus.client import Client
from shared.bus.sockets import engine_endpoint, reader_endpoint
from shared.protocol import ContainerSummary

__all__ = ["Screen"]

REFRESH = 1.0  # seconds between two frames
FIRST = 0.3  # seconds between the two looks of the first frame: a share of the processor needs two
TIMEOUT = 1.0  # seconds that arbiter and engine may take to answer
JOB_HEADER = ("ID", "JOB", "BY", "IN", "FOR", "STATUS")
CONTAINER_HEADER = ("CONTAINER", "NAME", "STATE", "CPU", "MEMORY", "PIDS")
QUIT = b"qQ\x03"
INTERRUPTED = 130


class _Meter:
    """From seconds of processor time to the share of one processor since the last look, by a key."""

    def __init__(self) -> None:
        self._last: dict[object, tuple[float, float]] = {}
        self._now: dict[object, tuple[float, float]] = {}

    def next(self) -> None:
        self._last, self._now = self._now, {}

    def share(self, key: object, cpu: float) -> str:
        now = time.monotonic()
        self._now[key] = (now, cpu)
        if key not in self._last:
            return "-"
        since, before = self._last[key]
        return f"{100 * max(cpu - before, 0) / max(now - since, 1e-6):.1f}%"


class Screen:
    """Frames of one stack."""

    def __init__(self, run: Path, cgroups: Cgroups) -> None:
        self._run, self._cgroups = run, cgroups
        self._engine, self._reader = Client(engine_endpoint(run), "ctl"), Client(reader_endpoint(run), "ctl")
        self._meter = _Meter()
        self._answered = time.monotonic()

    def once(self) -> int:
        """Print one frame, as long as it is; returns 1 if nobody answers."""
        self.frame(None)
        time.sleep(FIRST)
        seen, lines = self.frame(table.terminal_width())
        print("\n".join(lines))
        return int(not seen.processes)

    def live(self) -> int:
        """Show frame after frame, until q or ctrl-c."""
        console = Console()
        latest: list[str] = ["…"]
        threading.Thread(target=self._look_on, args=(console, latest), name="top", daemon=True).start()
        try:
            with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
                while not pressed(REFRESH / 4):
                    shown = latest[: console.height]
                    live.update(Text("\n".join(shown), no_wrap=True), refresh=True)
        except KeyboardInterrupt:
            return INTERRUPTED
        return 0

    def _look_on(self, console: Console, latest: list[str]) -> None:
        pause = FIRST
        while True:
            latest[:] = self.frame(console.width)[1]
            time.sleep(pause)
            pause = REFRESH

    def frame(self, width: int | None) -> tuple[Overview, list[str]]:
        """Look, and lay out what is seen in lines of at most ``width`` cells."""
        seen = self._look()
        self._meter.next()
        lines = [*self._head(seen), "", *self._processes(seen, width), "", *self._jobs(seen, width)]
        return seen, [*lines, "", *self._containers(seen, width)]

    def _look(self) -> Overview:
        stack = Stack(self._run, timeout=TIMEOUT)
        with contextlib.closing(stack):
            seen = overview.look(stack, self._engine, reader=self._reader, timeout=TIMEOUT)
        for client in (self._engine, self._reader):
            client.close()  # what was not taken is not sent: a queue that is full would hold us up
        if not seen.engine_trouble:
            self._answered = time.monotonic()
        return seen

    def _head(self, seen: Overview) -> list[str]:
        head = [f"dockyard {self._run}  {time.strftime('%H:%M:%S')}  load {os.getloadavg()[0]:.2f}"]
        if seen.arbiter_trouble:
            head.append(seen.arbiter_trouble)
        if seen.engine_trouble:
            head.append(f"{seen.engine_trouble}, for {time.monotonic() - self._answered:.0f}s now")
        return head

    def _processes(self, seen: Overview, width: int | None) -> list[str]:
        boot_time = time.clock_gettime(time.CLOCK_BOOTTIME)

        def share(process: Process) -> str:
            return self._meter.share(process.pid, process.cpu)

        return table.lines(overview.PROCESS_HEADER, overview.process_rows(seen, boot_time, share), table.Layout(width))

    def _jobs(self, seen: Overview, width: int | None) -> list[str]:
        if seen.engine_trouble:
            return ["JOBS  not known"]
        now = time.time()
        rows = [
            (id_, name, by, service, took, state)
            for id_, name, by, service, _, took, state in joblist.rows(reversed(seen.jobs), now)
        ]
        return table.lines(JOB_HEADER, rows, table.Layout(width, gives_way=1, spill=True))

    def _containers(self, seen: Overview, width: int | None) -> list[str]:
        known = {container.id: container for container in seen.containers}
        rows = [self._container(each, known.get(each)) for each in self._cgroups.containers() | set(known)]
        return table.lines(CONTAINER_HEADER, sorted(rows, key=lambda row: row[1]), table.Layout(width, gives_way=1))

    def _container(self, container: str, known: ContainerSummary | None) -> tuple[str, ...]:
        name = known.names[0].removeprefix("/") if known is not None and known.names else "-"
        state = known.state if known is not None else "?"
        return (container, name, state, *self._usage(container, self._cgroups.usage(container)))

    def _usage(self, container: str, usage: Usage | None) -> tuple[str, str, str]:
        if usage is None:
            return "-", "-", "-"
        return self._meter.share(container, usage.cpu), units.size(usage.memory), str(usage.pids)


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """Read the keyboard key by key; yields a function that waits so many seconds for a key that ends it all."""
    if not sys.stdin.isatty():
        yield lambda seconds: threading.Event().wait(seconds)
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield lambda seconds: _pressed(descriptor, seconds)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _pressed(descriptor: int, seconds: float) -> bool:
    ready, _, _ = select.select([descriptor], [], [], seconds)
    return bool(ready) and os.read(descriptor, 1) in QUIT
