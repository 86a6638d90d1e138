"""/metrics, in Prometheus' text format: what all API workers have counted, and what the engine tells.

Workers count in files that they share (`prometheus_client`'s multiprocess mode, in RUN/metrics), so that whichever is
asked tells of all, and of those that have left. The rest is one job.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

from services.apiserver.observing import Seen
from shared.protocol import JOB_BUCKETS, EngineMetrics, JobCount

__all__ = ["CONTENT_TYPE", "Metrics", "families", "prepare"]

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # is read when the library is imported
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)  # seconds


def prepare(run: Path) -> None:
    """Make the directory of the shared counts, before anything is counted."""
    directory = run / "metrics"
    directory.mkdir(mode=0o700, exist_ok=True)
    os.environ[DIRECTORY] = str(directory)


class Metrics:
    """A worker's counters; make it in the worker, after `prepare`."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        own = CollectorRegistry()  # of this worker; what is told is collected from the files of all
        labels = ("method", "route")
        self._requests = Counter(
            "dockyard_http_requests", "Requests to the API that have ended.", (*labels, "code"), registry=own
        )
        self._seconds = Histogram(
            "dockyard_http_request_duration_seconds", "Seconds until an answer, or a stream, has ended.", labels,
            buckets=BUCKETS, registry=own,
        )  # fmt: skip
        self._under_way = Gauge(
            "dockyard_http_requests_in_progress", "Requests under way, and streams.", registry=own,
            multiprocess_mode="livesum",
        )  # fmt: skip

    def begun(self, _seen: Seen) -> None:
        self._under_way.inc()

    def ended(self, seen: Seen) -> None:
        self._under_way.dec()
        self._requests.labels(seen.method if seen.route else "", seen.route, str(seen.status)).inc()
        self._seconds.labels(seen.method if seen.route else "", seen.route).observe(seen.seconds)

    def told(self, engine: EngineMetrics | None) -> bytes:
        """Return what is told; ``engine``: what it says, None if it does not answer."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        _bury(Path(os.environ[DIRECTORY]))
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        registry.register(_Engine(engine))
        return bytes(generate_latest(registry))


def _bury(directory: Path) -> None:
    """Have those counts forgotten that are of live workers only, of workers that have ended."""
    from prometheus_client.multiprocess import mark_process_dead

    for path in directory.glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if not Path(f"/proc/{pid}").exists():
            mark_process_dead(int(pid))  # type: ignore[no-untyped-call]


class _Engine:
    def __init__(self, engine: EngineMetrics | None) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Any]:
        yield from families(self._engine)


def families(engine: EngineMetrics | None) -> Iterator[Any]:
    """Yield the metric families of what the engine tells, and of its processes' memory and time."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    yield GaugeMetricFamily("dockyard_engine_up", "Whether the engine answers.", value=engine is not None)
    if engine is None:
        return
    jobs = HistogramMetricFamily("dockyard_job_duration_seconds", "Jobs that have ended.", labels=("job", "code"))
    for count in engine.jobs:
        jobs.add_metric((count.name, count.code or "ok"), list(_cumulative(count)), count.seconds)
    yield jobs
    yield GaugeMetricFamily("dockyard_jobs_in_progress", "Jobs under way.", value=engine.jobs_under_way)
    containers = GaugeMetricFamily("dockyard_containers", "Containers.", labels=("state",))
    for state, number in engine.containers.items():
        containers.add_metric((state,), number)
    yield containers
    yield GaugeMetricFamily("dockyard_images", "Images.", value=engine.images)
    labels = ("service", "pid")
    memory = GaugeMetricFamily("dockyard_process_memory_bytes", "Proportional set size (PSS).", labels=labels)
    seconds = CounterMetricFamily("dockyard_process_cpu_seconds", "Processor time.", labels=labels)
    ready = GaugeMetricFamily("dockyard_process_ready", "Whether it takes jobs.", labels=labels)
    under_way = GaugeMetricFamily("dockyard_process_jobs", "Jobs under way in it.", labels=labels)
    for service in engine.services:
        values = (service.service, str(service.pid))
        ready.add_metric(values, service.ready)
        under_way.add_metric(values, service.jobs)
        with suppress(OSError):
            memory.add_metric(values, _memory(service.pid))
            seconds.add_metric(values, _seconds(service.pid))
    yield from (memory, seconds, ready, under_way)


def _cumulative(count: JobCount) -> Iterator[tuple[str, float]]:
    bounds = [*map(str, JOB_BUCKETS), "+Inf"]
    return zip(bounds, accumulate(count.buckets), strict=True)


def _memory(pid: int) -> int:
    """Return the PSS of a process in bytes (proc(5), smaps_rollup). Errors: OSError."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0


def _seconds(pid: int) -> float:
    """Return the processor time of a process. Errors: OSError."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
