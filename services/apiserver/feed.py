"""Feed: the events that clients of this worker follow: read from the engine once, encoded once, and given to all.

One thread reads while anybody listens. A listener that is behind what is `KEPT` here reads the journal itself.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from shared.bus.alarm import Alarm, wait_for
from shared.bus.context import Context, current
from shared.protocol import Cancelled, DockyardError, Event, Header, ReadEvents
from shared.runtime.following import WAIT

__all__ = ["Feed", "Told"]

KEPT = 1000  # events that are kept here
Read = Callable[[ReadEvents], list[Event]]
log = logging.getLogger("dockyard.apiserver")


class Told:
    """An event, and its line, which is rendered for the first that wants it."""

    def __init__(self, event: Event) -> None:
        self.event = event
        self._line = b""

    def line(self, render: Callable[[Event], bytes]) -> bytes:
        if not self._line:
            self._line = render(self.event)
        return self._line


class _Listener:
    def __init__(self) -> None:
        self.news = Alarm()
        self.error: DockyardError | None = None


class Feed:
    def __init__(self, read: Read) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._kept: deque[Told] = deque(maxlen=KEPT)
        self._last = 0  # the number up to which the journal was read
        self._listeners: set[_Listener] = set()
        self._counted = Alarm()  # set: as many listen as the engine was not told of
        self._runs = False

    def follow(self, asked: ReadEvents, gone: Alarm) -> Iterator[list[Told]]:
        """Yield what ``asked``, which has no ``until``, asks for, until ``gone`` is set. Errors: those of ``read``."""
        after = asked.after
        while not asked.after and (found := self._read(msgspec.structs.replace(asked, after=after))):
            after = found[-1].seq
            yield [Told(event) for event in found]
        with self._listening(after) as listener:
            while not gone.is_set():
                listener.news.clear()
                told = self._since(after)
                if told is None:
                    told = [Told(event) for event in self._read(msgspec.structs.replace(asked, after=after))]
                if told:
                    after = told[-1].event.seq
                    yield told
                elif listener.error is not None:
                    raise listener.error
                else:
                    wait_for(gone, listener.news)

    def _since(self, after: int) -> list[Told] | None:
        """Return what is kept of later events; None if there are others that are not."""
        with self._lock:
            if after >= self._last:
                return []
            if not self._kept or self._kept[0].event.seq > after + 1:
                return None
            found = []
            for told in reversed(self._kept):
                if told.event.seq <= after:
                    break
                found.append(told)
        return found[::-1]

    @contextmanager
    def _listening(self, after: int) -> Iterator[_Listener]:
        listener = _Listener()
        with self._lock:
            self._listeners.add(listener)
            self._counted.set()
            if not self._runs:
                self._runs, self._last = True, after
                self._kept.clear()
                threading.Thread(target=self._run, name="events", daemon=True).start()
        try:
            yield listener
        finally:
            with self._lock:
                self._listeners.discard(listener)
                self._counted.set()
            listener.news.close()

    # -- one thread, while somebody listens

    def _run(self) -> None:
        current.set(Context(Header(), lambda output: None, cancelled=self._counted))
        while True:
            with self._lock:
                self._counted.clear()
                if not self._listeners:
                    self._runs = False
                    self._kept.clear()
                    return
                asked = ReadEvents(after=self._last, wait=WAIT, readers=len(self._listeners))
            try:
                self._tell(self._read(asked))
            except Cancelled:
                continue  # there are more listeners now, or fewer
            except DockyardError as error:
                self._fail(error)
                return
            except Exception as error:
                log.exception("reading events failed")
                self._fail(DockyardError(f"reading events failed: {error}"))
                return

    def _tell(self, events: list[Event]) -> None:
        with self._lock:
            self._kept += [Told(event) for event in events]
            self._last = events[-1].seq if events else self._last
            listeners = list(self._listeners) if events else []
        for listener in listeners:
            listener.news.set()

    def _fail(self, error: DockyardError) -> None:
        with self._lock:
            self._runs, listeners = False, self._listeners
            self._listeners = set()
        for listener in listeners:
            listener.error = error
            listener.news.set()
