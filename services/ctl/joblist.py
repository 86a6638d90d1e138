"""Job list: `dockyard jobs`, jobs live and past, each below the one that called it."""

from __future__ import annotations

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import msgspec

from services.ctl import table, units
from shared.bus.bus import Bus
from shared.protocol import Conflict, ListJobs, NotFound, PastJob, Unavailable

__all__ = [
    "batches",
    "call_text",
    "follow",
    "in_trees",
    "is_ours",
    "rows",
    "running_jobs",
    "show",
    "state_text",
    "the_one",
]

HEADER = ("ID", "JOB", "BY", "IN", "START", "TOOK", "STATUS")
LAYOUT = table.Layout(gives_way=1, spill=True)
FOLLOW_LAYOUT = table.Layout(gives_way=1, spill=True, least=(32, 32, 18, 11, 8, 7, 0))
FOLLOW_INTERVAL = 0.5  # seconds
OVERLAP = 2.0  # seconds that two looks of `follow` have in common: a start and its record are not one moment
PAGE = 1000  # jobs
TIMEOUT = 10.0  # seconds


def call_text(job: PastJob) -> str:
    """Return the call as the 2014 daemon logged it: ``kill(web, SIGTERM)``."""
    return f"{job.name}({job.args})"


def state_text(job: PastJob, now: float) -> str:
    """Return the status and what went wrong; of a job under way, what it waits for and how long it still may."""
    if job.status is not None:
        return f"{job.status} {job.message}".rstrip()
    text = "running"
    if job.waiting:
        text = f"waiting for {job.waiting}"
        text += f" since {units.duration(now - job.waiting_since)}" if job.waiting_since is not None else ""
    if job.deadline is not None:
        late = job.deadline < 0
        text += f", {units.duration(abs(job.deadline))} {'late' if late else 'left'}"
    return text


def is_ours(job: PastJob) -> bool:
    """Say whether this very process asked for it: to look at the jobs is one."""
    return job.caller == f"ctl[{os.getpid()}]"


def running_jobs(bus: Bus, *, timeout: float = TIMEOUT) -> list[PastJob]:
    """Return the jobs under way but our own, newest first."""
    return [job for job in bus.call(ListJobs(running=True, limit=PAGE), timeout=timeout) if not is_ours(job)]


def the_one(prefix: str, jobs: Iterable[PastJob]) -> PastJob:
    """Return the job whose id begins with ``prefix``. Errors: NotFound, Conflict (several begin so)."""
    meant = [job for job in jobs if prefix and job.id.startswith(prefix)]
    if not meant:
        raise NotFound(f"no job {table.plain(prefix)}")
    if len(meant) > 1:
        some = ", ".join(table.short(job.id) for job in meant[:4]) + (", …" if len(meant) > 4 else "")
        raise Conflict(f"{len(meant)} jobs begin with {prefix}: {some}")
    return meant[0]


def in_trees(jobs: Iterable[PastJob]) -> Iterator[tuple[int, PastJob]]:
    """Yield (depth, job): those that nobody here called in the order given, below each its children by start."""
    jobs = list(jobs)
    known = {job.id for job in jobs}
    children: defaultdict[str, list[PastJob]] = defaultdict(list)
    for job in sorted(jobs, key=lambda job: job.started):
        children[job.parent].append(job)
    pending = [(0, job) for job in reversed(jobs) if job.parent not in known]
    while pending:
        depth, job = pending.pop()
        yield depth, job
        pending += [(depth + 1, child) for child in reversed(children[job.id])]


def rows(jobs: Iterable[PastJob], now: float) -> list[tuple[str, ...]]:
    return [_row(job, depth, now) for depth, job in in_trees(jobs)]


def _row(job: PastJob, depth: int, now: float) -> tuple[str, ...]:
    name = "  " * (depth - 1) + ("└ " if depth else "") + call_text(job)
    by = f"{job.caller} uid={job.uid}" if job.uid else job.caller
    by = f"{by} for {job.peer}" if job.peer else by
    took = units.duration((job.ended or now) - job.started)
    return job.id, name, by, job.service, units.clock(job.started, now), took, state_text(job, now)


def show(jobs: list[PastJob], *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(jobs).decode())
    else:
        table.show(HEADER, rows(jobs, time.time()), LAYOUT)


def follow(bus: Bus, asked: ListJobs, *, as_json: bool) -> None:
    """Show the jobs that ``asked`` finds, then each further one as `batches` yields it. Returns never."""
    header: tuple[tuple[str, ...], ...] = () if as_json else (HEADER,)
    for batch in batches(bus, asked):
        if as_json:
            for job in batch:
                print(msgspec.json.encode(job).decode(), flush=True)
        elif batch or header:
            first, *others = [*header, *rows(batch, time.time())]
            table.show(first, others, FOLLOW_LAYOUT)
            header = ()


def batches(bus: Bus, asked: ListJobs, pause: Callable[[float], None] = time.sleep) -> Iterator[list[PastJob]]:
    """Yield what ``asked`` finds, then again and again what has ended since, or, if ``asked`` is for running jobs, what
    has begun. An engine that is being restarted is waited for.
    """
    now = time.time()
    found = [job for job in bus.call(asked, timeout=TIMEOUT) if not is_ours(job)]
    under_way = {job.id for job in found if job.status is None}
    done = {job.id for job in found} - under_way
    while True:
        yield found
        pause(FOLLOW_INTERVAL)
        since, now = now - OVERLAP, time.time()
        try:
            running = [job for job in running_jobs(bus) if asked.name in ("", job.name)]
            recent = _since(bus, asked, since)
            ended = [job for job in recent if job.status is not None]
            ended += _ends(bus, asked, under_way - {job.id for job in [*running, *recent]})
        except Unavailable as error:
            print(f"{error.message}; waiting for it", file=sys.stderr)
            found, now = [], since + OVERLAP
            continue
        if asked.running:
            found = [job for job in running if job.id not in under_way]
        else:
            found = [job for job in ended if job.id not in done]
        under_way, done = {job.id for job in running}, {job.id for job in ended}


def _since(bus: Bus, asked: ListJobs, since: float) -> list[PastJob]:
    since = max(since, asked.since)
    jobs = bus.call(ListJobs(name=asked.name, failed=asked.failed, since=since, limit=PAGE), timeout=TIMEOUT)
    return [job for job in jobs if job.started >= since and not is_ours(job)]


def _ends(bus: Bus, asked: ListJobs, ids: set[str]) -> Iterator[PastJob]:
    """Yield how jobs ended that began too long ago to be among the recent ones."""
    for job_id in ids:
        for job in bus.call(ListJobs(trace=job_id), timeout=TIMEOUT):
            if job.id == job_id and job.status is not None and (job.status or not asked.failed):
                yield job
