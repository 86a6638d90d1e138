"""Forks: the arbiter's side of the fork server. What that does not do, for whatever reason, is executed instead."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from pathlib import Path

from services.ctl.forking import begin
from shared.runtime.birth import ALL, GO, MOST, Birth, ask, module_of

__all__ = ["Begun", "ForkServer"]

LOADING, ANSWER = 20.0, 2.0  # seconds: what loading all code takes at most, and beginning one process
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before another is begun
LONGEST_NAME = 4096
Begun = tuple[int, socket.socket]
log = logging.getLogger("dockyard.arbiter")


class ForkServer:
    """It ends with us, or by `close`; another is begun if it dies. ``pid``: 0 while there is none.

    ``begun``: one that has been begun already (`begin`).
    """

    def __init__(self, ini: Path, begun: Begun | None = None) -> None:
        self._ini = ini
        self._loop: asyncio.AbstractEventLoop | None = None
        self._control: socket.socket | None = None
        self._pidfd = -1
        self._pause, self._began = FIRST_PAUSE, 0.0
        self._loaded: set[bytes] = set()
        self._waiting: list[asyncio.Event] = []
        self.pid = 0
        self._begin(begun)

    def _begin(self, begun: Begun | None = None) -> None:
        self._began = time.monotonic()
        try:
            self.pid, self._control = begun or begin(self._ini)
        except OSError as error:
            self._retry(f"no fork server error={error}")
            return
        self._pidfd = os.pidfd_open(self.pid)
        if self._loop is not None:
            self._loop.add_reader(self._control, self._hear)

    # -- what it does

    def fork(self, words: list[str], environ: dict[str, str], directory: str, numbers: dict[int, int]) -> int | None:
        """Have a program begin as a child of ours; returns its pid, or None: execute it.

        ``numbers``: its descriptors → ours. Blocks until it is there, for as long as its code is being loaded.
        """
        if self._control is None or len(numbers) > MOST:
            return None
        ours, theirs = socket.socketpair()
        with ours:
            try:
                ours.settimeout(ANSWER if self._has_loaded(words[2]) else LOADING)
                with theirs:
                    birth = Birth(words, environ, directory, list(numbers))
                    ask(self._control, birth, theirs.fileno(), list(numbers.values()))
                return _born(ours)
            except TimeoutError:
                self._lose("does not answer")
            except (OSError, ValueError) as error:
                log.warning("not forked, but executed program=%s error=%s", words[2], error)
        return None

    def _has_loaded(self, module: str) -> bool:
        return module.encode() in self._loaded

    # -- in the event loop

    def attend(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take note of what it says from now on, and begin another when it has ended."""
        self._loop = loop
        if self._control is not None:
            loop.add_reader(self._control, self._hear)
        else:
            loop.call_later(self._pause, self._begin)

    async def loaded(self, command: str) -> None:
        """Return when it has loaded what a command runs, or will not do so ahead."""
        module, deadline = module_of(command.split()), time.monotonic() + LOADING
        while module and self._control and not self._has_loaded(module) and ALL not in self._loaded:
            news = asyncio.Event()
            self._waiting.append(news)
            try:
                await asyncio.wait_for(news.wait(), deadline - time.monotonic())
            except TimeoutError:
                return

    def _hear(self) -> None:
        assert self._control is not None
        try:
            name = self._control.recv(LONGEST_NAME, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            name = b""
        if name:
            self._loaded.add(name)
            self._wake()
        else:
            self._lose("has ended")

    def _wake(self) -> None:
        while self._waiting:
            self._waiting.pop().set()

    def _lose(self, why: str) -> None:
        pid = self.pid
        self.close()
        self._wake()
        self._retry(f"the fork server {why} pid={pid}")

    def _retry(self, why: str) -> None:
        """Begin another, at first soon, then ever later."""
        log.warning("%s", why)
        lasted = time.monotonic() - self._began > LONGEST_PAUSE
        self._pause = FIRST_PAUSE if lasted else min(self._pause * 2, LONGEST_PAUSE)
        if self._loop is not None:
            self._loop.call_later(self._pause, self._begin)

    def close(self) -> None:
        """End it, and wait for that; it need not be there."""
        if self._control is None:
            return
        if self._loop is not None:
            self._loop.remove_reader(self._control)
        self._control.close()
        self._control, self.pid = None, 0
        self._loaded.clear()
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        os.close(self._pidfd)


def _born(report: socket.socket) -> int:
    """Wait for a process to tell its pid, and let it begin. Errors: OSError, ValueError (it has ended before)."""
    line = b""
    while not line.endswith(b"\n"):
        if not (part := report.recv(32)):
            raise ValueError("it ended before it began")
        line += part
    report.sendall(GO)
    return int(line)
