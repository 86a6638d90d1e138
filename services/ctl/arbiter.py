"""Arbiter: circus's, made of a circus.ini; what its control endpoint is asked for goes to who made it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from circus.arbiter import Arbiter
from circus.config import get_config
from tornado.ioloop import IOLoop

from services.ctl.forking import environ_of_children
from services.ctl.listeners import Listener
from services.ctl.watcher import BoundedWatcher

__all__ = ["SINGLE", "GatedArbiter", "control_endpoint", "leave_to_children", "make_arbiter", "read_ini"]

# each holds names, sockets or files that a second of it would be refused: it would end at once, again and again
SINGLE = ("engine", "reader", "graphdriver", "dns", "netdriver", "execdriver", "builder")

LOOK = "manage_watchers"  # what circus calls its look at the processes
PAUSE = 0.01  # seconds
QUIET_TIMEOUT = 5.0  # seconds that a spawn or a command of circus may take to end
log = logging.getLogger("dockyard.arbiter")


def control_endpoint(run: Path) -> str:
    return f"ipc://{run}/circus.sock"


class GatedArbiter(Arbiter):
    """``on_quit``: what `quit` on the control endpoint does instead of stopping everything at once."""

    on_quit: Callable[[], None]
    on_upgrade: Callable[[], str | None]
    condition: Callable[[], dict[str, Any]]
    spawning: asyncio.Future[Any] | None = None  # a watcher that is being started

    def initialize(self) -> None:
        super().initialize()
        answer = answering(self.ctrl.handle_message, self.ctrl.send_error)
        self.ctrl.handle_message = patient(answer, self._looks, self.loop.call_later)

    def _looks(self) -> bool:
        """Say whether it is looking after its processes: circus refuses all commands meanwhile."""
        return bool(self._exclusive_running_command == LOOK)

    def manage_watchers(self) -> Any:
        """What a command is doing comes first; circus would log each of these rounds as an error."""
        return None if self._exclusive_running_command else super().manage_watchers()

    def look(self) -> None:
        """Look after the processes as soon as nothing else is done: one has ended. Circus looks from time to time."""
        if self._exclusive_running_command or (self.spawning and not self.spawning.done()):
            self.loop.call_later(PAUSE, self.look)
        elif self._running and not self._stopping:
            self.manage_watchers()

    async def quiet(self) -> None:
        """Wait until nothing is being spawned: a process that comes while its watcher stops would not be stopped."""
        if self.spawning is not None:
            await asyncio.wait([self.spawning], timeout=QUIET_TIMEOUT)
        deadline = time.monotonic() + QUIET_TIMEOUT
        while self._exclusive_running_command is not None and time.monotonic() < deadline:
            await asyncio.sleep(PAUSE)

    def stop(self) -> Any:
        self.on_quit()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


def patient(
    handle: Callable[[list[bytes]], None], looks: Callable[[], bool], later: Callable[..., object]
) -> Callable[[list[bytes]], None]:
    """Wrap `handle_message`: what comes while ``looks`` is true is handled ``later``, rather than refused."""

    def when_it_does_not(frames: list[bytes]) -> None:
        if looks():
            later(PAUSE, when_it_does_not, frames)
        else:
            handle(frames)

    return when_it_does_not


def answering(handle: Callable[[list[bytes]], Any], send_error: Callable[..., Any]) -> Callable[[list[bytes]], None]:
    """Wrap circus's `handle_message`, which raises for what is no command: its endpoint could be deaf from then on."""

    def safely(frames: list[bytes]) -> None:
        try:
            handle(frames)
        except Exception as error:
            log.warning("no command error=%r", error)
            send_error(None, frames[0], b"", f"no command: {error}")

    return safely


def leave_to_children(environ: Mapping[str, str]) -> None:
    """Have in our environment what processes of the stack find in theirs, ``environ`` among it; what is ours goes."""
    kept = environ_of_children({**os.environ, **environ})
    for name in os.environ.keys() - kept.keys():
        del os.environ[name]
    os.environ.update(kept)


def read_ini(ini: Path) -> tuple[dict[str, Any], list[BoundedWatcher]]:
    """Read a circus.ini: all its settings, and the watchers. Errors: ValueError, OSError, configparser.Error."""
    settings = get_config(str(ini))
    for each in settings["watchers"]:
        if not each.get("cmd"):
            raise ValueError(f"{ini}: {each['name']} has no cmd")
    watchers = [BoundedWatcher.load_from_config(watcher) for watcher in settings["watchers"]]
    for watcher in watchers:
        if watcher.max_retry < 0:
            raise ValueError(f"{ini}: max_retry of {watcher.name} must not be negative")
        if watcher.name in SINGLE and watcher.numprocesses > 1:
            raise ValueError(f"{ini}: there can be only one {watcher.name}, not {watcher.numprocesses}")
    return settings, watchers


def make_arbiter(ini: Path, run: Path, listeners: list[Listener], scaled: Mapping[str, int]) -> GatedArbiter:
    """Make it, on the present event loop. ``scaled``: how many of a service, if not as many as the file says.

    Errors: as of `read_ini`.
    """
    settings, watchers = read_ini(ini)
    descriptors = ",".join(str(listener.fileno()) for listener in listeners)
    for watcher in watchers:
        watcher.configured = watcher.numprocesses
        watcher.numprocesses = scaled.get(watcher.name, watcher.numprocesses)
        if watcher.use_sockets:
            watcher.env["DOCKYARD_LISTEN_FDS"] = descriptors
            watcher.env["DOCKYARD_LISTEN_HOSTS"] = ",".join(str(listener.host_index) for listener in listeners)
    return GatedArbiter(
        watchers,
        control_endpoint(run),
        f"ipc://{run}/circus-events.sock",
        check_delay=float(settings.get("check_delay", 0.2)),
        sockets=listeners,
        loop=IOLoop.current(),
        proc_name="dockyard up",
    )
