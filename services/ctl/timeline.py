"""Time line: `dockyard trace ID`, a job and all it caused, over all processes, drawn to scale."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from services.ctl import table, units
from services.ctl.joblist import call_text, in_trees, state_text, the_one
from services.ctl.stacklog import LogLine
from shared.bus.bus import Bus
from shared.protocol import ListJobs, PastJob

__all__ = ["find", "render", "show"]

HEADER = ("OFFSET", "TOOK", "JOB", "IN", "STATUS", "TIME LINE")
JOB_COLUMN = 2
BAR_WIDTH = 40  # cells, where there is no terminal
BAR_LEAST = 12  # cells, on the narrowest terminal
FULL, EIGHTHS, LOG_MARK, GOES_ON = "█", " ▏▎▍▌▋▊▉█", "·", "▶"
LEVELS = {"ERROR": "error: ", "WARNING": "warning: "}


def find(bus: Bus, prefix: str) -> list[PastJob]:
    """Return the job whose id begins with ``prefix``, and all its descendants, oldest first.

    Errors: NotFound, Conflict (several begin so).
    """
    valid = len(prefix) <= 32 and set(prefix) <= set("0123456789abcdef")
    found = bus.call(ListJobs(trace=prefix), timeout=10) if valid and prefix else []
    the_one(prefix, found)
    return found


def show(jobs: list[PastJob], log: Iterable[LogLine]) -> None:
    print("\n".join(render(jobs, log, now=time.time(), width=table.terminal_width())))


@dataclass(frozen=True)
class _Scale:
    """A bar of ``width`` cells for what lies between two times."""

    begin: float
    end: float
    width: int

    def _cells(self, at: float) -> float:
        return min(max((at - self.begin) / max(self.end - self.begin, 1e-9), 0.0), 1.0) * self.width

    def bar(self, begin: float, end: float | None, now: float) -> str:
        """Draw a span: to whole cells where it begins, to eighths where it ends; it is always visible."""
        first = min(int(self._cells(begin)), self.width - 1)
        eighths = max(round((self._cells(end or now) - first) * 8), 1)
        bar = FULL * (eighths // 8) + EIGHTHS[eighths % 8].strip()
        bar = bar if end is not None else FULL * (len(bar) - 1) + GOES_ON
        return (" " * first + bar)[: self.width].ljust(self.width)


def render(jobs: list[PastJob], log: Iterable[LogLine], *, now: float, width: int | None) -> list[str]:
    """Draw a time line in lines of at most ``width`` cells (None: as long as they are)."""
    begin, end = min(job.started for job in jobs), max(job.ended or now for job in jobs)
    lines_of: defaultdict[str, list[LogLine]] = defaultdict(list)
    for line in log:
        lines_of[line.job].append(line)
    tree = list(in_trees(jobs))
    rows = [_row(job, depth, begin, now) for depth, job in tree]
    taken = len(table.lines((*HEADER[:-1], "|"), [(*row, "") for row in rows])[0]) - 1
    scale = _Scale(begin, end, BAR_WIDTH if width is None else max(width - taken, BAR_LEAST))
    rows = [(*row, scale.bar(job.started, job.ended, now)) for row, (_, job) in zip(rows, tree, strict=True)]
    header, *drawn = table.lines(HEADER, rows, table.Layout(width, gives_way=JOB_COLUMN))
    made = [_about(tree[0][1], now, width), header]
    for (depth, job), line_drawn in zip(tree, drawn, strict=True):
        details = list(_details(job, lines_of[job.id], begin, now))
        made += [line_drawn, *(table.fit(f"{offset:>10}  {'  ' * depth}{text}", width) for offset, text in details)]
    return made


def _about(top: PastJob, now: float, width: int | None) -> str:
    """Say what is traced, by its whole id, and what it is a part of."""
    peer = f" for {top.peer}" if top.peer else ""
    by = f", asked for by {top.caller}{peer}" if top.caller else ""
    part = f", part of {top.parent}" if top.parent else ""
    more = f" at {units.clock(top.started, now)}{by}{part}"
    return top.id + table.fit(more, None if width is None else width - len(top.id))


def _row(job: PastJob, depth: int, begin: float, now: float) -> tuple[str, ...]:
    took = units.duration((job.ended or now) - job.started)
    status = str(job.status) if job.status is not None else "waiting" if job.waiting else "running"
    return _offset(job.started - begin), took, "  " * depth + call_text(job), job.service, status


def _details(job: PastJob, log: list[LogLine], begin: float, now: float) -> Iterator[tuple[str, str]]:
    """Yield (offset, text): what the log says of a job, then what went wrong, or what it waits for."""
    for line in log:
        yield _offset(line.at - begin), f"{LOG_MARK} {line.service}: {LEVELS.get(line.level, '')}{line.text}"
    if job.message:
        yield "", f"! {job.message}"
    if job.status is None and (job.waiting or job.deadline is not None):
        yield "", f"… {state_text(job, now)}"


def _offset(seconds: float) -> str:
    return f"+{units.duration(max(seconds, 0.0))}"
