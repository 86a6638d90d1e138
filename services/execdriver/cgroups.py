"""Control groups of containers: found, frozen and removed by hand in every hierarchy (cgroup v1, v2 and hybrid).

| host   | controllers               | freezer                       |
|--------|---------------------------|-------------------------------|
| v1     | ROOT/CONTROLLER/PATH      | ROOT/freezer/PATH             |
| v2     | ROOT/PATH                 | ROOT/PATH                     |
| hybrid | as v1; ROOT/unified/PATH has none | as v1, or ROOT/unified/PATH |
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.protocol import DockyardError

__all__ = ["Cgroup", "complete_hierarchies", "expect_moves", "remove_empty", "write"]

ROOT = Path("/sys/fs/cgroup")
KILL_TIMEOUT = 10.0  # seconds
FREEZE_TIMEOUT = 10.0  # seconds
POLL_INTERVAL = 0.002  # seconds
log = logging.getLogger("dockyard.execdriver")
libc = ctypes.CDLL(None, use_errno=True)


def complete_hierarchies() -> None:
    """On a hybrid host, mount the v1 hierarchy of each controller that is left on cgroup2: crun refuses a mix.

    cgroup v1 hosts mount all of them as a rule (cgroups-mount, systemd's hybrid mode); some leave hugetlb out.
    """
    try:
        left = (ROOT / "unified" / "cgroup.controllers").read_text().split()
    except FileNotFoundError:
        return
    for controller in left:
        target = ROOT / controller
        target.mkdir(exist_ok=True)
        if libc.mount(b"cgroup", str(target).encode(), b"cgroup", 0, controller.encode()):
            log.error("cgroup not mounted controller=%s error=%s", controller, os.strerror(ctypes.get_errno()))
        else:
            log.info("cgroup mounted controller=%s", controller)


def expect_moves() -> None:
    """Have the kernel get ready for a process to be moved into a cgroup, in the background; never fails.

    The first move after a quiet while waits for an RCU grace period (8 ms at 250 Hz), in which nothing else of a
    start depends on it: so we begin it ahead of the runtime, by moving ourselves to where we are.
    """
    threading.Thread(target=_move_nowhere, name="expect-moves", daemon=True).start()


def _move_nowhere() -> None:
    try:
        (_own_cgroup() / "cgroup.procs").write_text("0")
    except OSError as error:
        log.debug("cgroup moves not announced error=%s", error)


@functools.cache
def _own_cgroup() -> Path:
    """Return the directory of our own cgroup, in one hierarchy."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    places = {controllers: path.lstrip("/") for _, controllers, path in lines}
    if (ROOT / "cgroup.controllers").exists():
        return ROOT / places[""]
    if "" in places and (ROOT / "unified").exists():
        return ROOT / "unified" / places[""]
    return ROOT / "pids" / places.get("pids", "")


def write(file: Path, text: str) -> None:
    """Write to a control file, which is there or not: none is ever made. Errors: OSError."""
    descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def remove_empty(path: str, root: Path = ROOT) -> None:
    """Remove a cgroup from every hierarchy in which it has neither processes nor cgroups inside; never fails."""
    for directory in Cgroup(path, root).directories():
        with contextlib.suppress(OSError):
            directory.rmdir()


@dataclass(frozen=True)
class Cgroup:
    """A control group, ``path`` (as ``/dockyard/ID``) in each hierarchy under ``root`` that has it."""

    path: str
    root: Path = ROOT

    @property
    def unified(self) -> bool:
        """Say whether the host has cgroup v2 alone."""
        return (self.root / "cgroup.controllers").exists()

    def directory(self, controller: str) -> Path:
        """Return where a controller's files are, if the controller is there."""
        return self._in(self.root if self.unified else self.root / controller)

    def _in(self, hierarchy: Path) -> Path:
        return hierarchy / self.path.lstrip("/")

    def directories(self) -> Iterator[Path]:
        if self.unified:
            hierarchies = [self.root]
        else:
            hierarchies = [entry for entry in self.root.iterdir() if entry.is_dir() and not entry.is_symlink()]
        yield from (found for found in map(self._in, hierarchies) if found.is_dir())

    def processes(self) -> set[int]:
        """Return the pids of all processes in the cgroup and those inside it."""
        found: set[int] = set()
        for top in self.directories():
            for directory, _, _ in os.walk(top):
                try:
                    found |= {int(line) for line in Path(directory, "cgroup.procs").read_text().split()}
                except OSError:
                    continue
        return found - {0}

    def process_files(self) -> list[Path]:
        """Return the files that take a process into the cgroup, one in each hierarchy."""
        return [directory / "cgroup.procs" for directory in self.directories()]

    # -- freezing

    def freeze(self) -> None:
        """Have every process stand still. Idempotent. Errors: DockyardError (they do not; then they run on)."""
        deadline = time.monotonic() + FREEZE_TIMEOUT
        self._set_frozen(True)
        while not self.frozen():
            if time.monotonic() > deadline:
                self.thaw()
                raise DockyardError(f"cgroup {self.path} cannot be frozen")
            time.sleep(POLL_INTERVAL)
            self._set_frozen(True)  # v1: a process that was just forked may have been missed

    def thaw(self) -> None:
        """Let the processes run on. Idempotent; nothing where there is no such cgroup."""
        self._set_frozen(False)

    def frozen(self) -> bool:
        try:
            if self._has_v1_freezer():
                return (self._in(self.root / "freezer") / "freezer.state").read_text().strip() == "FROZEN"
            return "frozen 1" in (self._unified_directory() / "cgroup.events").read_text()
        except OSError:
            return False

    def _set_frozen(self, wanted: bool) -> None:
        try:
            if self._has_v1_freezer():
                write(self._in(self.root / "freezer") / "freezer.state", "FROZEN" if wanted else "THAWED")
            else:
                write(self._unified_directory() / "cgroup.freeze", "1" if wanted else "0")
        except FileNotFoundError:
            if wanted:
                raise DockyardError("this kernel has no freezer for cgroups") from None

    def _has_v1_freezer(self) -> bool:
        return not self.unified and (self.root / "freezer").is_dir()

    def _unified_directory(self) -> Path:
        return self._in(self.root if self.unified else self.root / "unified")

    # -- the end

    def kill_all(self) -> None:
        """SIGKILL every process until the cgroup is empty. Errors: DockyardError (they do not die)."""
        deadline = time.monotonic() + KILL_TIMEOUT
        while processes := self.processes():
            if time.monotonic() > deadline:
                raise DockyardError(f"processes in {self.path} cannot be killed: {sorted(processes)}")
            for pid in processes:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self.thaw()  # cgroup v1: what is frozen does not die
            time.sleep(POLL_INTERVAL)

    def remove(self) -> None:
        """Remove the cgroup and those inside it. Idempotent. Errors: DockyardError (not empty)."""
        for top in self.directories():
            for directory, _, _ in os.walk(top, topdown=False):
                _rmdir(Path(directory))

    def oom_killed(self) -> bool | None:
        """Say whether the kernel killed a process of the cgroup for memory; None if there is no such cgroup."""
        directory = self.directory("memory")
        for name in ("memory.oom_control", "memory.events"):
            try:
                facts = dict(line.split() for line in (directory / name).read_text().splitlines())
            except (OSError, ValueError):
                continue
            return int(facts.get("oom_kill", 0)) > 0
        return None


def _rmdir(directory: Path) -> None:
    """The kernel may hold a cgroup for a moment after its last process is gone."""
    for attempt in range(100):
        try:
            directory.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if attempt == 99:
                raise DockyardError(f"cgroup not removed: {directory}: {error.strerror}") from error
            time.sleep(POLL_INTERVAL)
