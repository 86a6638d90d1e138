"""Launcher: circus's Arbiter, with what it lacks: readiness gates, an ordered stop, bounded restarts, sd_notify.

Why each override is there: circus starts and stops all watchers at once, respawns for ever, gives a watcher up in
silence, drops a SIGTERM that comes while it is busy, and adopts nothing it did not make. All of it runs in one event
loop: what waits, waits in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from circus.arbiter import Arbiter
from circus.config import get_config
from sdnotify import SystemdNotifier
from tornado.ioloop import IOLoop

from services.ctl.listeners import Listener
from services.ctl.readiness import Readiness
from services.ctl.watcher import EX_CONFIG, RESTART_WINDOW, BoundedWatcher
from shared.runtime.process import ARBITER

__all__ = ["Launcher", "control_endpoint"]

T = TypeVar("T")
log = logging.getLogger("dockyard.arbiter")

RESTART_LIMIT = 10  # more restarts of one watcher within RESTART_WINDOW escalate
QUIET_TIMEOUT = 5.0  # seconds that a spawn or a command of circus may take to end
WATCH_INTERVAL = 1.0  # seconds
GRACE_MARGIN = 5.0  # seconds that a process may take over its grace
BOOT_TIMEOUT = 60.0  # seconds
STRIPPED = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


def control_endpoint(run: Path) -> str:
    return f"ipc://{run}/circus.sock"


class GatedArbiter(Arbiter):
    """``on_quit``: what `quit` on the control endpoint does instead of stopping everything at once."""

    on_quit: Callable[[], None]

    def stop(self) -> Any:
        self.on_quit()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


class Launcher:
    """Run the processes of a circus.ini until told to stop; `run` returns the exit status."""

    def __init__(
        self, ini: Path, run: Path, environ: dict[str, str], listeners: list[Listener], grace: float = 0.0
    ) -> None:
        """``grace``: seconds that a process which is let go may go on."""
        self.notifier = SystemdNotifier()
        self.watchdog = float(os.environ.get("WATCHDOG_USEC", "0")) / 2_000_000  # seconds between two signs of life
        for name in STRIPPED:
            os.environ.pop(name, None)
        os.environ.update(environ)
        os.environ[ARBITER] = str(os.getpid())
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
        self.loop = IOLoop.current()
        self.readiness = Readiness(run, listeners, BOOT_TIMEOUT)
        self.status = 0
        self._stopping = asyncio.Event()
        self._signals = 0
        self._spawning: asyncio.Future[Any] | None = None
        self.arbiter = self._make_arbiter(ini, run, listeners, grace + GRACE_MARGIN)

    def _make_arbiter(self, ini: Path, run: Path, listeners: list[Listener], retire_timeout: float) -> GatedArbiter:
        settings = get_config(str(ini))
        watchers = [BoundedWatcher.load_from_config(watcher) for watcher in settings["watchers"]]
        descriptors = ",".join(str(listener.fileno()) for listener in listeners)
        for watcher in watchers:
            if watcher.max_retry < 0:
                raise ValueError(f"{ini}: max_retry of {watcher.name} must not be negative")
            watcher.on_misconfigured = self._misconfigured
            watcher.retire_timeout = retire_timeout
            if watcher.use_sockets:
                watcher.env["DOCKYARD_LISTEN_FDS"] = descriptors
                watcher.env["DOCKYARD_LISTEN_HOSTS"] = ",".join(str(listener.host_index) for listener in listeners)
        arbiter = GatedArbiter(
            watchers,
            control_endpoint(run),
            f"ipc://{run}/circus-events.sock",
            check_delay=float(settings.get("check_delay", 0.2)),
            sockets=listeners,
            loop=self.loop,
            proc_name="dockyard up",
        )
        arbiter.on_quit = self.stop
        return arbiter

    # -- the whole life

    async def run(self) -> int:
        self.notifier.notify("STATUS=starting")
        mask = os.umask(0o177)
        self.arbiter.initialize()
        self.arbiter.ctrl.start()
        os.umask(mask)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signalled)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        tasks = [asyncio.ensure_future(work) for work in (self._start(), self._supervise())]
        await self._stopping.wait()
        for task in tasks:
            task.cancel()
        await self._stop()
        return self.status

    def stop(self) -> None:
        self._stopping.set()

    def _signalled(self, number: int, _frame: object) -> None:
        self._signals += 1
        if self._signals > 3:
            os._exit(128 + number)
        log.info("signal received signal=%s", signal.Signals(number).name)
        self.loop.add_callback_from_signal(self.stop)

    def _fail(self, why: str, status: int = 1) -> None:
        log.error("%s", why)
        self.notifier.notify(f"STATUS={why}")
        self.status = status
        self.stop()

    # -- start: one after the other, each when the one before has said that it is ready

    async def _start(self) -> None:
        self.arbiter._running = True
        try:
            for watcher in self.arbiter.iter_watchers():
                self.notifier.notify(f"STATUS=starting {watcher.name}")
                self._spawning = asyncio.ensure_future(watcher._start())
                await asyncio.shield(self._spawning)
                await self._in_thread(self.readiness.wait_for, watcher.name)
                log.info("ready service=%s", watcher.name)
            await self._in_thread(self.readiness.wait_for_api)
            log.info("first ping answered")
        except TimeoutError as error:
            self._fail(str(error))
            return
        except Exception as error:  # a task's exception is seen by nobody: the boot would hang
            log.exception("boot failed")
            self._fail(f"the boot failed: {error}")
            return
        self.notifier.notify("READY=1\nSTATUS=ready")
        log.info("ready")
        if self.watchdog:
            await self._feed_watchdog()

    async def _in_thread(self, wait: Callable[..., T], *args: str) -> T:
        """Wait in a daemon thread: at the end nobody waits for the waiting."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if not future.done():
                future.set_exception(error) if error is not None else future.set_result(result)  # type: ignore[arg-type]

        def run() -> None:
            try:
                outcome: tuple[T | None, BaseException | None] = (wait(*args), None)
            except BaseException as error:
                outcome = (None, error)
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(settle, *outcome)

        threading.Thread(target=run, name="readiness", daemon=True).start()
        return await future

    async def _feed_watchdog(self) -> None:
        while True:
            if await self._in_thread(self.readiness.is_alive):
                self.notifier.notify("WATCHDOG=1")
            await asyncio.sleep(self.watchdog)

    def _misconfigured(self, name: str) -> None:
        self._fail(f"{name} ended with {EX_CONFIG}: its configuration is wrong", EX_CONFIG)

    # -- supervision: a part that fails too often, or that circus has given up, ends the whole stack, visibly

    async def _supervise(self) -> None:
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            for watcher in self.arbiter.watchers:
                if watcher.restarts() > RESTART_LIMIT:
                    self._fail(f"{watcher.name} was restarted {watcher.restarts()} times in {RESTART_WINDOW:.0f} s")
                elif watcher.was_started and watcher.is_stopped():
                    self._fail(f"{watcher.name} could not be started")

    # -- stop: the API first, the engine last

    async def _stop(self) -> None:
        self.notifier.notify("STOPPING=1\nSTATUS=stopping")
        self.arbiter._stopping = True
        if self.arbiter.ctrl.caller is not None:
            self.arbiter.ctrl.caller.stop()
        self.readiness.give_up()
        await self._quiet()
        for watcher in self.arbiter.iter_watchers(reverse=False):
            log.info("stopping service=%s", watcher.name)
            await self._settled(watcher._stop)
        with contextlib.suppress(OSError):
            self.arbiter.stop_controller_and_close_sockets()
        log.info("stopped")

    async def _quiet(self) -> None:
        """Wait until nothing is being spawned: a process that comes while its watcher stops would not be stopped."""
        if self._spawning is not None:
            await asyncio.wait([self._spawning], timeout=QUIET_TIMEOUT)
        deadline = time.monotonic() + QUIET_TIMEOUT
        while self.arbiter._exclusive_running_command is not None and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    async def _settled(self, stop: Callable[[], Awaitable[Any]]) -> None:
        """One watcher that cannot be stopped must not keep the others from it."""
        try:
            await stop()
        except Exception:
            log.exception("watcher not stopped")
