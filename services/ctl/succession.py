"""Succession: an arbiter that executes its program anew, with its pid, its children and its sockets.

What the next must know goes along in the variable ``ARBITER_LEGACY``, as JSON; descriptors and children are the
kernel's to keep over execve(2). The locks are among those descriptors: nobody can take them in between.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import msgspec

from services.ctl.forking import LEGACY as VARIABLE
from services.ctl.listeners import Listener
from services.ctl.startup import ROOT_LOCK, RUN_LOCK
from services.ctl.waiting import in_thread
from services.ctl.watcher import BoundedWatcher

__all__ = ["Legacy", "Predecessors", "begun_with", "hand_over", "take"]

begun_with: dict[str, str] = {}  # the environment that the first of us was started with


class Legacy(msgspec.Struct, frozen=True):
    """``children``: service → pids that are to be replaced; ``draining``: those that only end what they have begun.

    ``lock``, ``run_lock``: descriptors of those that are held (-1: by a release that did not have it). ``listeners``:
    address → descriptor of sockets that we made; ``scaled``: service → how many the operator wants.
    """

    lock: int
    run_lock: int = -1
    generation: int = 0
    children: dict[str, list[int]] = {}
    draining: list[int] = []
    listeners: dict[str, int] = {}
    scaled: dict[str, int] = {}

    @classmethod
    def of(
        cls,
        watchers: Sequence[BoundedWatcher],
        listeners: Iterable[Listener],
        predecessors: Predecessors,
        generation: int,
        root: Path,
        run: Path,
    ) -> Legacy:
        """Errors: LookupError (a lock is not held)."""
        return cls(
            lock=_lock_descriptor(root / ROOT_LOCK),
            run_lock=_lock_descriptor(run / RUN_LOCK),
            generation=generation,
            children={watcher.name: sorted(watcher.processes) for watcher in watchers},
            draining=predecessors.draining,
            listeners={one.address: one.fileno() for one in listeners if one.address},
            scaled={one.name: one.numprocesses for one in watchers if one.numprocesses != one.configured},
        )

    @property
    def descriptors(self) -> list[int]:
        return [one for one in (self.lock, self.run_lock, *self.listeners.values()) if one >= 0]


def take(environ: MutableMapping[str, str]) -> Legacy | None:
    """Return what was left to us, once; None for the first of its kind. No descriptor of it is given any further."""
    begun_with.update(environ)
    text = environ.pop(VARIABLE, None)
    begun_with.pop(VARIABLE, None)
    if text is None:
        return None
    legacy = msgspec.json.decode(text, type=Legacy)
    for descriptor in legacy.descriptors:
        os.set_inheritable(descriptor, False)
    return legacy


def hand_over(legacy: Legacy, environ: Mapping[str, str] = begun_with) -> NoReturn:
    """Execute our program anew, from what is on disk now. Returns only by OSError."""
    for descriptor in legacy.descriptors:
        os.set_inheritable(descriptor, True)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what is ignored stays so over execve(2)
    variables = {**environ, VARIABLE: msgspec.json.encode(legacy).decode()}
    try:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], variables)
    except OSError:
        signal.signal(signal.SIGHUP, handler)
        raise


def _lock_descriptor(path: Path) -> int:
    """Return our descriptor of a lock. Errors: LookupError."""
    wanted = os.path.realpath(path)
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if str(entry.readlink()) == wanted:
                return int(entry.name)
        except OSError:  # of the listing itself
            continue
    raise LookupError(f"the lock {path} is not held")


class Predecessors:
    """The children of the arbiter that we were: each goes when its successor is there."""

    def __init__(self, legacy: Legacy | None) -> None:
        self._children = dict(legacy.children) if legacy else {}
        self._draining = list(legacy.draining) if legacy else []

    @property
    def services(self) -> list[str]:
        """Those that have not been told to go."""
        return list(self._children)

    @property
    def draining(self) -> list[int]:
        """Pids of those that only end what they have begun."""
        return [pid for pid in self._draining if Path(f"/proc/{pid}").exists()]

    def drain(self, service: str) -> None:
        """Have an API's workers take no more connections: they end when the last they have does."""
        pids = self._children.pop(service, [])
        self._draining += pids
        for number in (signal.SIGUSR1, signal.SIGTERM):  # see `services.apiserver.server`
            _send(pids, number)

    async def end(self, service: str, limit: float) -> None:
        """End a service's, by force after ``limit`` seconds."""
        await in_thread(_end, self._children.pop(service, []), limit)

    async def end_draining(self, limit: float) -> None:
        await in_thread(_end, self._draining, limit)


def _send(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _end(pids: Iterable[int], grace: float) -> None:
    """End children of ours: SIGTERM, and SIGKILL after ``grace`` seconds. Blocks until they have ended."""
    descriptors: dict[int, int] = {}
    for pid in pids:
        with suppress(ProcessLookupError):
            descriptors[pid] = os.pidfd_open(pid)
    _send(descriptors, signal.SIGTERM)
    deadline = time.monotonic() + grace
    try:
        for pid, descriptor in descriptors.items():
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                poller.poll()
    finally:
        for descriptor in descriptors.values():
            os.close(descriptor)
