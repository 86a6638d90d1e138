"""Launcher: circus's Arbiter, with what it lacks: readiness gates, an ordered stop, bounded restarts, sd_notify.

Why each override is there: circus starts and stops all watchers at once, respawns for ever, gives a watcher up in
silence, drops a SIGTERM that comes while it is busy, and adopts nothing it did not make. All of it runs in one event
loop: what waits, waits in a thread.

An upgrade (SIGHUP, or the command) is tried by a `rehearse`; then the arbiter executes itself anew (`succession`), and
replaces its children one after the other: drivers first, then the engine, and the API's workers beside their
predecessors, which end when their last connection does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from sdnotify import SystemdNotifier
from tornado.ioloop import IOLoop

from services.ctl import succession
from services.ctl.arbiter import GatedArbiter, leave_to_children, make_arbiter
from services.ctl.boot import boot
from services.ctl.forks import ForkServer
from services.ctl.listeners import Listener
from services.ctl.readiness import TRY_TIMEOUT, Readiness
from services.ctl.rehearsal import rehearse
from services.ctl.succession import Legacy, Predecessors
from services.ctl.supervision import supervise
from services.ctl.waiting import in_thread
from services.ctl.watcher import EX_CONFIG, BoundedWatcher
from shared.runtime import departure
from shared.runtime.process import FORCED_AFTER
from shared.runtime.turns import Turns

__all__ = ["Launcher"]

log = logging.getLogger("dockyard.arbiter")

GRACE_MARGIN = 5.0  # seconds that a process may take over its grace
PATIENCE = 60.0  # seconds that each part is given to become ready
RETRY_SIGN = 1.0  # seconds until engine and API are asked again, if they did not answer
ENGINE = "engine"
ASKERS = (ENGINE, "reader")  # in an upgrade they come after those whom they ask


class Launcher:
    """Run the processes of a circus.ini until told to stop; `run` returns the exit status.

    ``root``: whose lock an upgrade keeps; without one there is none. ``legacy``: of what was this very process before.
    ``grace``: seconds that a process which is let go may go on. ``stop_limit``: service → seconds that it has for its
    jobs when the stack stops or replaces it; when it is ended otherwise, circus.ini says how many.
    """

    def __init__(
        self,
        ini: Path,
        run: Path,
        environ: dict[str, str],
        listeners: list[Listener],
        *,
        root: Path | None = None,
        legacy: Legacy | None = None,
        grace: float = 0.0,
        stop_limit: Callable[[str], float] = lambda service: BoundedWatcher.GRACE,
        fork_server: ForkServer | None = None,
    ) -> None:
        self.notifier = SystemdNotifier()
        self.watchdog = float(os.environ.get("WATCHDOG_USEC", "0")) / 2_000_000  # seconds between two signs of life
        leave_to_children(environ)
        self.loop = IOLoop.current()
        self.readiness = Readiness(run, listeners, PATIENCE)
        self.status = 0
        self._ini, self._root, self._run, self._listeners = ini, root, run, listeners
        self._generation = legacy.generation + 1 if legacy else 0
        self._predecessors = Predecessors(legacy)
        self._phase, self._trouble = "starting", ""
        self._shown = ""  # of what is down
        self._grace, self._stop_limit, self._forks = grace, stop_limit, fork_server
        self._stopping = asyncio.Event()
        self._signals = 0
        self._upgrade: asyncio.Future[None] | None = None
        self.arbiter = self._make_arbiter(legacy.scaled if legacy else {})

    def _make_arbiter(self, scaled: Mapping[str, int]) -> GatedArbiter:
        arbiter = make_arbiter(self._ini, self._run, self._listeners, scaled)
        arbiter.on_quit, arbiter.on_upgrade, arbiter.condition = self.stop, self.upgrade, self.condition
        for watcher in arbiter.watchers:
            watcher.on_misconfigured = self._misconfigured
            watcher.retire_timeout = self._grace + GRACE_MARGIN
            watcher.fork_server = self._forks
        return arbiter

    # -- the whole life

    async def run(self) -> int:
        self._say("upgrading" if self._generation else "starting")
        departure.revoke(self._run)
        mask = os.umask(0o177)
        self.arbiter.initialize()
        self.arbiter.ctrl.start()
        os.umask(mask)
        if self._forks is not None:
            self._forks.attend(asyncio.get_running_loop())
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signalled)
        signal.signal(signal.SIGHUP, lambda *_: self.loop.add_callback_from_signal(self.upgrade))
        signal.signal(signal.SIGCHLD, lambda *_: self.loop.add_callback_from_signal(self.arbiter.look))
        watching = supervise(self.arbiter.watchers, self._fail, self._show_trouble, self._root)
        tasks = [asyncio.ensure_future(work) for work in (self._start(), watching)]
        await self._stopping.wait()
        for task in tasks:
            task.cancel()
        await self._stop()
        return self.status

    def stop(self) -> None:
        self._stopping.set()

    def _signalled(self, number: int, _frame: object) -> None:
        self._signals += 1
        shown = signal.Signals(number).name
        if self._signals > FORCED_AFTER:
            log.error("forced to end, whatever is under way signal=%s", shown)
            os._exit(128 + number)
        log.info("signal received signal=%s", shown)
        self.loop.add_callback_from_signal(self.stop)

    def _say(self, status: str, *lines: str) -> None:
        """Tell systemd, whose `systemctl status` shows ``status``."""
        self.notifier.notify("\n".join([*lines, f"STATUS={status}"]))

    def _fail(self, why: str, status: int = 1) -> None:
        if self._stopping.is_set():
            return
        log.error("%s", why)
        self._trouble, self.status = why, status
        self._say(why)
        self.stop()

    def condition(self) -> dict[str, Any]:
        """Return what an operator may want to know of the arbiter, as JSON values."""
        return {
            "pid": os.getpid(),
            "phase": self._phase,
            "trouble": self._trouble,
            "generation": self._generation,
            "draining": self._predecessors.draining,
            "forkserver": self._forks.pid if self._forks is not None else 0,
        }

    # -- start: each begins when its code is there, and works when the one before is ready

    async def _start(self) -> None:
        self.arbiter._running = True
        try:
            await (self._replace() if self._generation else self._boot())
            await in_thread(self.readiness.wait_for_api)
            log.info("first ping answered")
        except TimeoutError as error:
            self._fail(str(error))
            return
        except Exception as error:  # a task's exception is seen by nobody: the boot would hang
            log.exception("boot failed")
            self._fail(f"the boot failed: {error}")
            return
        for service in self._predecessors.services:
            await self._predecessors.end(service, self._stop_limit(service))
        self._phase = "ready"
        log.info("ready")
        self._say("ready", "READY=1")
        if self.watchdog:
            await self._feed_watchdog()

    async def _boot(self) -> None:
        watchers = list(self.arbiter.iter_watchers())
        turns = Turns(self._run, [watcher.name for watcher in watchers])
        await boot(watchers, turns, self.readiness, self._spawn, lambda what: self._say(what, *self._progress()))

    async def _replace(self) -> None:
        """Replace the predecessors: who asks comes after those who answer, and the API last in any case."""
        watchers = list(self.arbiter.iter_watchers())
        for watcher in sorted(watchers, key=lambda watcher: (watcher.use_sockets, watcher.name in ASKERS)):
            self._say(f"replacing {watcher.name}", *self._progress())
            await self._replace_one(watcher)
            log.info("ready service=%s", watcher.name)

    def _progress(self) -> list[str]:
        """A boot that goes on may take its time. An upgrade that does is a sign of life: the engine is replaced."""
        more = f"EXTEND_TIMEOUT_USEC={int((PATIENCE + TRY_TIMEOUT) * 1e6)}"
        return [more, "WATCHDOG=1"] if self.watchdog and self._generation else [more]

    async def _spawn(self, watcher: Any) -> None:
        if self._forks is not None:
            await self._forks.loaded(watcher.cmd)  # to ask for what is not loaded would stop the loop
        self.arbiter.spawning = asyncio.ensure_future(watcher._start())
        await asyncio.shield(self.arbiter.spawning)

    async def _replace_one(self, watcher: Any) -> None:
        known = await in_thread(self.readiness.registered, watcher.name)
        if not watcher.use_sockets:
            await in_thread(self.readiness.await_quiet, watcher.name)
            await self._predecessors.end(watcher.name, self._stop_limit(watcher.name))
        await self._spawn(watcher)
        await in_thread(self.readiness.wait_for, watcher.name)
        await in_thread(self.readiness.wait_for_successor, watcher.name, known)
        if watcher.use_sockets:
            self._predecessors.drain(watcher.name)

    async def _feed_watchdog(self) -> None:
        while True:
            alive = await in_thread(self.readiness.is_alive)
            if alive:
                self.notifier.notify("WATCHDOG=1")
            await asyncio.sleep(self.watchdog if alive else min(self.watchdog, RETRY_SIGN))

    def _misconfigured(self, name: str) -> None:
        self._fail(f"{name} ended with {EX_CONFIG}: its configuration is wrong", EX_CONFIG)

    # -- upgrade

    def upgrade(self) -> str | None:
        """Begin an upgrade; returns why not, if it cannot be begun."""
        if self._phase != "ready" or self._stopping.is_set() or self._root is None:
            return f"no upgrade now: the stack is {self._phase}"
        self._phase, self._trouble = "upgrading", ""
        self._upgrade = asyncio.ensure_future(self._try_upgrade(self._root))
        return None

    async def _try_upgrade(self, root: Path) -> None:
        log.info("upgrade asked for")
        self._say("upgrade: trying what is on disk", "RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            listening = [one.address for one in self._listeners]
            self._trouble = await in_thread(rehearse, self._ini, root, self._run, listening, succession.begun_with)
            if not self._trouble and not self._stopping.is_set():
                await self.arbiter.quiet()
                log.info("executing anew")
                succession.hand_over(
                    Legacy.of(
                        self.arbiter.watchers, self._listeners, self._predecessors, self._generation, root, self._run
                    )
                )
        except Exception as error:
            log.exception("upgrade failed")
            self._trouble = str(error)
        self._phase = "ready"
        log.error("no upgrade, the stack runs on as it is: %s", self._trouble)
        self._say(f"ready; no upgrade: {self._trouble}", "READY=1")

    # -- supervision

    def _show_trouble(self, down: str) -> None:
        """Tell what is down, or that nothing is any more."""
        if self._phase == "ready" and down != self._shown:
            self._shown = self._trouble = down
            self._say(f"degraded: {down}" if down else "ready")
            log.warning("%s", down) if down else log.info("nothing is wrong any more")

    # -- stop: the API first, then the engine: it ends its jobs while those whom it asks are there

    async def _stop(self) -> None:
        self._phase = "stopping"
        departure.announce(self._run)
        self._say(self._trouble or "stopping", "STOPPING=1")
        self.arbiter._stopping = True
        if self.arbiter.ctrl.caller is not None:
            self.arbiter.ctrl.caller.stop()
        self.readiness.give_up()
        await self.arbiter.quiet()
        await self._predecessors.end_draining(BoundedWatcher.GRACE)
        watchers = self.arbiter.iter_watchers(reverse=False)
        for watcher in sorted(watchers, key=lambda watcher: (not watcher.use_sockets, watcher.name != ENGINE)):
            log.info("stopping service=%s", watcher.name)
            if not watcher.use_sockets:  # the API's clients have no grace when the stack ends
                watcher.graceful_timeout = self._stop_limit(watcher.name)
            await self._settled(watcher._stop)
            await self._predecessors.end(watcher.name, self._stop_limit(watcher.name))
        with contextlib.suppress(OSError):
            self.arbiter.stop_controller_and_close_sockets()
        log.info("stopped")

    async def _settled(self, stop: Callable[[], Awaitable[Any]]) -> None:
        """One watcher that cannot be stopped must not keep the others from it."""
        try:
            await stop()
        except Exception:
            log.exception("watcher not stopped")
