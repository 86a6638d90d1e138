"""Waiting: one `wait` job that outlives the engine: lost with it, it is taken up again where it was."""

from __future__ import annotations

import contextvars
import queue
import threading
import time

import msgspec

from shared.bus.bus import Bus
from shared.bus.client import RETRY_TIME
from shared.bus.context import Context, current
from shared.protocol import (
    Cancelled,
    ContainerExit,
    DockyardError,
    Header,
    Output,
    Unavailable,
    WaitContainer,
)

__all__ = ["Waiting"]

PAUSE = 0.05  # seconds before a lost wait is taken up again


class Waiting:
    """`begin` returns when the wait is in force, or raises; `result` when it is over, or the client has gone."""

    def __init__(self, bus: Bus, job: WaitContainer) -> None:
        self._bus, self._job = bus, job
        self._news: queue.SimpleQueue[ContainerExit | DockyardError | None] = queue.SimpleQueue()
        self._context = Context(Header(), lambda output: None)
        self._first: ContainerExit | DockyardError | None = None

    def begin(self) -> None:
        threading.Thread(target=contextvars.copy_context().run, args=(self._run,), name="wait", daemon=True).start()
        self._first = self._news.get()
        if isinstance(self._first, DockyardError):
            raise self._first

    def result(self, gone: threading.Event) -> ContainerExit | None:
        if self._first is not None:
            assert isinstance(self._first, ContainerExit)
            return self._first
        while not gone.is_set():
            try:
                news = self._news.get(timeout=0.5)
            except queue.Empty:
                continue
            if isinstance(news, ContainerExit):
                return news
            if isinstance(news, DockyardError):
                return ContainerExit(status_code=-1)
        self._context.cancelled.set()
        return None

    def _run(self) -> None:
        current.set(self._context)
        deadline = time.monotonic() + RETRY_TIME
        while True:
            try:
                self._news.put(self._bus.call(self._job, timeout=None, on_status=self._note))
                return
            except Cancelled:
                return
            except Unavailable as error:
                if self._job.generation is None and time.monotonic() > deadline:
                    self._news.put(error)
                    return
                time.sleep(PAUSE)
            except DockyardError as error:
                self._news.put(error)
                return

    def _note(self, output: Output) -> None:
        """STATUS ``ready``: "ID GENERATION"; from now on the wait can be taken up again."""
        if output.stream == "ready" and self._job.generation is None:
            container, _, generation = output.text.partition(" ")
            self._job = msgspec.structs.replace(self._job, container=container, generation=int(generation))
            self._news.put(None)
