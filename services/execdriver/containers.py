"""Containers: the execdriver's operations. What it must know lies in bundles; memory only holds descriptors."""

from __future__ import annotations

import logging
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from services.execdriver import limits, monitor, resources, shm
from services.execdriver.attach import Attachments
from services.execdriver.bundle import Bundle, Process, Start, end
from services.execdriver.bundling import write_bundle
from services.execdriver.cgroups import Cgroup, expect_moves
from services.execdriver.exits import Exits
from services.execdriver.files import set_resolver
from services.execdriver.health import Checks
from services.execdriver.joining import joined
from services.execdriver.placement import Placement
from services.execdriver.reports import Reports
from services.execdriver.rotation import Rotation
from services.execdriver.runtimes import RuntimeOf
from services.execdriver.signals import once
from shared.bus.context import asked_again
from shared.protocol import (
    Conflict,
    ContainerExited,
    DockyardError,
    InvalidArgument,
    NotFound,
    Running,
    RuntimeSetResolver,
    RuntimeStart,
    RuntimeStarted,
)
from shared.runtime.config import Config

__all__ = ["Containers"]

MONITOR_GRACE = 1.0  # seconds
log = logging.getLogger("dockyard.execdriver")


class Containers:
    def __init__(
        self, config: Config, runtime_of: RuntimeOf, reports: Reports, checks: Checks, placement: Placement
    ) -> None:
        self._config, self._runtime_of, self._reports, self.checks = config, runtime_of, reports, checks
        self._placement = placement
        self.attachments = Attachments()
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._inits: dict[str, Process] = {}
        self._signalling = threading.Lock()
        self._rotation = Rotation()
        self._exits = Exits(self._on_exit)
        for name in ("containers", "exits"):
            (config.run / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._adopt()

    def close(self) -> None:
        """End what looks after containers here; they live on."""
        self._rotation.close()

    # -- operations

    def start(self, job: RuntimeStart) -> RuntimeStarted:
        """Create and start; see `RuntimeStart`."""
        expect_moves()
        bundle = self._bundle(job.container)
        with self._locks[job.container]:
            if asked_again() and self._has_run(bundle, job.generation):
                return RuntimeStarted(pid=bundle.init_pid(), monitor_pid=bundle.monitor_pid())
            self._make_way(bundle, job.generation)
            start = Start(
                job.generation,
                self._placement.cgroup(job.container, job.host_config.cgroup_parent),
                shm.place(job.host_config, bundle, self._bundle),
                directory=job.directory,
                log=job.log,
                runtime=job.host_config.runtime,
            )
            runtime = self._runtime_of(start.runtime)
            bundle.create(start)
            try:
                self._rotation.prepare(Path(job.directory), job.log)
                with joined(job.host_config, self._bundle) as namespaces:
                    spec = write_bundle(self._config, bundle, job, start, namespaces)
                    pid = monitor.spawn(bundle, runtime, job, partial(self._placement.admit, start.cgroup))
                self._hold(bundle, pid)
                limits.set_late(bundle, pid, spec)
                self.attachments.release(bundle)
                resources.apply(Cgroup(start.cgroup), job.host_config)
                runtime.start(job.container)
            except BaseException:
                self._remove(bundle)
                raise
            self._rotation.watch(bundle, Path(job.directory), job.log)
            self.checks.begin(bundle, job, self._inits[job.container])
            self._exits.watch(bundle)
        return RuntimeStarted(pid=pid, monitor_pid=bundle.monitor_pid())

    def _has_run(self, bundle: Bundle, generation: int) -> bool:
        """Say whether this start has worked already, for somebody who did not hear of it; it may have ended since."""
        start = bundle.start()
        return start is not None and start.generation == generation and bool(bundle.init_pid())

    def _make_way(self, bundle: Bundle, generation: int) -> None:
        before = bundle.start()
        if before is None:
            return
        if before.generation >= generation and bundle.exit() is None:
            raise Conflict(f"generation {before.generation} of container {bundle.container} runs already")
        self._remove(bundle)

    def _hold(self, bundle: Bundle, pid: int) -> None:
        process = Process.open(pid)
        if process is None:
            raise DockyardError(f"the process of {bundle.container} ended before it was started")
        self._inits[bundle.container] = process

    def kill(self, container: str, number: int, job: str = "") -> None:
        """Send a signal, for ``job`` once. Errors as `RuntimeKill`."""
        process = self._inits.get(container)
        if process is None:
            raise NotFound(f"No such container: {container}")
        if not job:
            self._send(process, container, number)
            return
        with self._signalling, once(self._bundle(container), job, number) as is_due:
            if is_due:
                self._send(process, container, number)

    def _send(self, process: Process, container: str, number: int) -> None:
        try:
            signal.pidfd_send_signal(process.pidfd, number)
        except ProcessLookupError:
            raise NotFound(f"the process of {container} is gone") from None
        except OSError as error:
            raise InvalidArgument(f"signal {number}: {error.strerror}") from error

    def delete(self, container: str) -> None:
        with self._locks[container]:
            self._remove(self._bundle(container))
        self._locks.pop(container, None)

    def set_resolver(self, job: RuntimeSetResolver) -> None:
        """Carry out `RuntimeSetResolver`."""
        config = self._config
        set_resolver(Path(job.directory), job.resolver, job.host_config, config.dns, config.dns_search)

    def resize(self, container: str, height: int, width: int) -> None:
        try:
            monitor.resize(self._bundle(container), height, width)
        except OSError as error:
            raise Conflict(f"container {container} is not running: {error.strerror}") from error

    @contextmanager
    def running(self, container: str) -> Iterator[Cgroup]:
        """Yield the cgroup of a container that runs; it is neither started nor deleted meanwhile. Errors: NotFound."""
        with self._locks[container]:
            yield self.find(container)[0]

    def find(self, container: str) -> tuple[Cgroup, int]:
        """Return cgroup and init's pid of a container that runs, without waiting for anything. Errors: NotFound."""
        bundle, process = self._bundle(container), self._inits.get(container)
        start = bundle.start()
        if process is None or start is None or bundle.exit() is not None:
            raise NotFound(f"No such container: {container}")
        return Cgroup(start.cgroup), process.pid

    def known(self) -> list[Running]:
        """Return what runs or has ended; a start under way is waited for."""
        found = []
        for bundle in self._bundles():
            with self._locks[bundle.container]:
                entry = self._running(bundle)
            if entry is not None:
                found.append(entry)
        return found

    # -- the ends of things

    def _remove(self, bundle: Bundle) -> None:
        """Remove a container's processes, cgroups, runtime state and bundle, in whatever state they are."""
        start = bundle.start()
        if start is not None:
            if not bundle.init_pid():
                bundle.end_makers()
            Cgroup(start.cgroup).kill_all()
        self._kill_monitor(bundle)
        if start is not None:
            Cgroup(start.cgroup).remove()
            self._placement.clear(start.cgroup)
        self._runtime_of(start.runtime if start is not None else "").delete(bundle.container)
        self.attachments.end(bundle.container)
        self.checks.end(bundle.container)
        process = self._inits.pop(bundle.container, None)
        if process is not None:
            process.close()
        self._rotation.forget(bundle.container)
        shm.unmount(bundle)
        bundle.remove()

    def _kill_monitor(self, bundle: Bundle) -> None:
        """A monitor ends by itself when its container does; one that does not within a second is killed."""
        process = Process.open(bundle.monitor_pid())
        if process is not None:
            process.lives(MONITOR_GRACE)  # waits for its end
            end(process)

    def _on_exit(self, bundle: Bundle, code: int, when: float) -> None:
        start = bundle.start()
        self.attachments.end(bundle.container)
        self.checks.end(bundle.container)
        if start is None:  # deleted meanwhile
            return
        report = ContainerExited(
            container=bundle.container,
            generation=start.generation,
            exit_code=code,
            exited_at=when,
            oom_killed=bundle.ran_out_of_memory(start.cgroup),
            error=bundle.exit_error(),
        )
        self._reports.submit(report)

    # -- after a restart

    def _adopt(self) -> None:
        """Find again what an earlier process of this driver started; a start it left half-done is undone."""
        for bundle in self._bundles():
            if bundle.exit() is None and (self._is_waiting(bundle) or not bundle.init_pid()):
                log.warning("half-done start removed container=%s", bundle.container)
                self._remove(bundle)
                continue
            process = bundle.init() if bundle.exit() is None else None
            if process is not None:
                self._inits[bundle.container] = process
                self.attachments.release(bundle)
                self.checks.resume(bundle, process)
                self._watch_log(bundle)
            self._exits.watch(bundle)

    def _is_waiting(self, bundle: Bundle) -> bool:
        start = bundle.start()
        return self._runtime_of(start.runtime if start is not None else "").is_waiting(bundle.container)

    def _watch_log(self, bundle: Bundle) -> None:
        if (start := bundle.start()) is not None:
            self._rotation.watch(bundle, Path(start.directory), start.log)

    def _running(self, bundle: Bundle) -> Running | None:
        start = bundle.start()
        if start is None:
            return None
        exited = bundle.exit()
        code, when = exited if exited is not None else (None, 0.0)
        return Running(
            container=bundle.container,
            generation=start.generation,
            pid=bundle.init_pid(),
            monitor_pid=bundle.monitor_pid(),
            exit_code=code,
            exited_at=when,
            oom_killed=exited is not None and bundle.ran_out_of_memory(start.cgroup),
            error=bundle.exit_error() if exited is not None else "",
            paused=exited is None and Cgroup(start.cgroup).frozen(),
            health=self.checks.health(bundle.container),
        )

    def _bundle(self, container: str) -> Bundle:
        return Bundle.of(self._config.run, container)

    def _bundles(self) -> list[Bundle]:
        return [self._bundle(entry.name) for entry in (self._config.run / "containers").iterdir()]
