"""Waiting: one `wait` job that outlives the engine: lost with it, it is taken up again where it was."""

from __future__ import annotations

import contextvars
import threading
import time

import msgspec

from shared.bus.alarm import Alarm, wait_for
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
        self._context = Context(Header(), lambda output: None, cancelled=Alarm())
        self._begun, self._over = threading.Event(), Alarm()
        self._outcome: ContainerExit | DockyardError | None = None

    def begin(self) -> None:
        threading.Thread(target=contextvars.copy_context().run, args=(self._run,), name="wait", daemon=True).start()
        self._begun.wait()
        if self._job.generation is None and isinstance(self._outcome, DockyardError):
            raise self._outcome

    def result(self, gone: Alarm) -> ContainerExit | None:
        wait_for(gone, self._over)
        if self._over.is_set():
            return self._outcome if isinstance(self._outcome, ContainerExit) else ContainerExit(status_code=-1)
        self._context.cancelled.set()
        return None

    def _run(self) -> None:
        current.set(self._context)
        deadline = time.monotonic() + RETRY_TIME
        while True:
            try:
                self._end(self._bus.call(self._job, timeout=None, on_status=self._note))
                return
            except Cancelled:
                return
            except Unavailable as error:
                if self._job.generation is None and time.monotonic() > deadline:
                    self._end(error)
                    return
                time.sleep(PAUSE)
            except DockyardError as error:
                self._end(error)
                return

    def _end(self, outcome: ContainerExit | DockyardError) -> None:
        self._outcome = outcome
        self._over.set()
        self._begun.set()

    def _note(self, output: Output) -> None:
        """STATUS ``ready``: "ID GENERATION"; from now on the wait can be taken up again."""
        if output.stream == "ready" and self._job.generation is None:
            container, _, generation = output.text.partition(" ")
            self._job = msgspec.structs.replace(self._job, container=container, generation=int(generation))
            self._begun.set()
