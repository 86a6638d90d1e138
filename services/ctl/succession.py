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
from collections.abc import Iterable, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import msgspec

__all__ = ["Legacy", "begun_with", "end", "hand_over", "lock_descriptor", "send", "take"]

VARIABLE = "ARBITER_LEGACY"

begun_with: dict[str, str] = {}  # the environment that the first of us was started with


class Legacy(msgspec.Struct, frozen=True):
    """``children``: service → pids that are to be replaced; ``draining``: those that only end what they have begun.

    ``locks``: descriptors of those that are held. ``listeners``: address → descriptor of sockets that we made;
    ``scaled``: service → how many the operator wants.
    """

    locks: list[int]
    generation: int = 0
    children: dict[str, list[int]] = {}
    draining: list[int] = []
    listeners: dict[str, int] = {}
    scaled: dict[str, int] = {}


def take(environ: MutableMapping[str, str]) -> Legacy | None:
    """Return what was left to us, once; None for the first of its kind. No descriptor of it is given any further."""
    begun_with.update(environ)
    text = environ.pop(VARIABLE, None)
    begun_with.pop(VARIABLE, None)
    if text is None:
        return None
    legacy = msgspec.json.decode(text, type=Legacy)
    for descriptor in (*legacy.locks, *legacy.listeners.values()):
        os.set_inheritable(descriptor, False)
    return legacy


def hand_over(legacy: Legacy, environ: Mapping[str, str] = begun_with) -> NoReturn:
    """Execute our program anew, from what is on disk now. Returns only by OSError."""
    for descriptor in (*legacy.locks, *legacy.listeners.values()):
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


def lock_descriptor(path: Path) -> int:
    """Return our descriptor of a lock. Errors: LookupError."""
    wanted = os.path.realpath(path)
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if str(entry.readlink()) == wanted:
                return int(entry.name)
        except OSError:  # of the listing itself
            continue
    raise LookupError(f"the lock {path} is not held")


def send(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def end(pids: Iterable[int], grace: float) -> None:
    """End children of ours: SIGTERM, and SIGKILL after ``grace`` seconds. Blocks until they have ended."""
    descriptors: dict[int, int] = {}
    for pid in pids:
        with suppress(ProcessLookupError):
            descriptors[pid] = os.pidfd_open(pid)
    send(descriptors, signal.SIGTERM)
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
