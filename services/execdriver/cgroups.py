"""Control groups of containers: found and removed by hand in every hierarchy (cgroup v1, v2 and hybrid)."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from shared.protocol import DockyardError

__all__ = ["complete_hierarchies", "expect_moves", "kill_all", "frozen", "oom_killed", "process_files", "remove"]

ROOT = Path("/sys/fs/cgroup")
KILL_TIMEOUT = 10.0  # seconds
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


def _directories(path: str) -> Iterator[Path]:
    """Yield the directories of the cgroup ``path`` (as ``/dockyard/ID``), in each hierarchy that has it."""
    relative = path.lstrip("/")
    if (ROOT / "cgroup.controllers").exists():
        candidates = [ROOT / relative]
    else:
        candidates = [entry / relative for entry in ROOT.iterdir() if entry.is_dir() and not entry.is_symlink()]
    yield from (directory for directory in candidates if directory.is_dir())


def process_files(path: str) -> list[Path]:
    """Return the files that take a process into the cgroup, one in each hierarchy."""
    return [directory / "cgroup.procs" for directory in _directories(path)]


def frozen(path: str) -> bool:
    """Say whether the cgroup's processes are kept from running (a container that is paused)."""
    relative = path.lstrip("/")
    for file, state in (
        (ROOT / "freezer" / relative / "freezer.state", "FROZEN"),
        (ROOT / relative / "cgroup.freeze", "1"),
    ):
        try:
            return file.read_text().strip() == state
        except OSError:
            continue
    return False


def _processes(path: str) -> set[int]:
    found: set[int] = set()
    for top in _directories(path):
        for directory, _, _ in os.walk(top):
            try:
                found |= {int(line) for line in Path(directory, "cgroup.procs").read_text().split()}
            except OSError:
                continue
    return found - {0}


def kill_all(path: str) -> None:
    """SIGKILL every process in a cgroup until it is empty. Errors: DockyardError (they do not die)."""
    deadline = time.monotonic() + KILL_TIMEOUT
    while processes := _processes(path):
        if time.monotonic() > deadline:
            raise DockyardError(f"processes in {path} cannot be killed: {sorted(processes)}")
        for pid in processes:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.002)


def remove(path: str) -> None:
    """Remove a cgroup and those inside it. Idempotent. Errors: DockyardError (not empty)."""
    for top in _directories(path):
        for directory, _, _ in os.walk(top, topdown=False):
            _rmdir(Path(directory))


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
            time.sleep(0.002)


def oom_killed(path: str) -> bool:
    """Say whether the kernel killed a process of the cgroup for memory."""
    relative = path.lstrip("/")
    for file in (ROOT / "memory" / relative / "memory.oom_control", ROOT / relative / "memory.events"):
        try:
            facts = dict(line.split() for line in file.read_text().splitlines())
        except (OSError, ValueError):
            continue
        return int(facts.get("oom_kill", 0)) > 0
    return False
