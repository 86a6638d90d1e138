"""Threads: a pool whose threads come when there is work for more, go when there is not, and hold up no exit.

Who has begun to wait last gets the next work, so that those who are too many find none: after a crowd has left, its
threads leave too, each with its socket on the bus (100 KiB in all), and what is always needed stays warm.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Threads"]

IDLE_TIME = 30.0  # seconds without work after which one of the others ends


@dataclass(frozen=True)
class _Task:
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    future: Future[Any] = field(default_factory=Future)

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.function(*self.arguments, **self.options)
        except BaseException as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


Inbox = queue.SimpleQueue[_Task]


class Threads(Executor):
    """``limit``: how many at most; what comes beyond waits its turn. ``kept``: that stay when there is no work.

    Daemons: an exit of the process waits for none.
    """

    def __init__(self, name: str, limit: int, *, kept: int = 0, idle_time: float = IDLE_TIME) -> None:
        self._name, self._limit, self._kept, self._idle_time = name, limit, kept, idle_time
        self._lock = threading.Lock()
        self._count = 0
        self._idle: list[Inbox] = []  # of the threads that wait; the last is the next to get work
        self._waiting: deque[_Task] = deque()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        task = _Task(fn, args, kwargs)
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
            if inbox is None and self._count >= self._limit:
                self._waiting.append(task)
                return task.future
            self._count += inbox is None
        if inbox is None:
            self._begin(task)
        else:
            inbox.put(task)
        return task.future

    def _begin(self, task: _Task) -> None:
        try:
            threading.Thread(target=self._work, args=(task,), name=self._name, daemon=True).start()
        except RuntimeError:
            with self._lock:
                self._count -= 1
            raise

    def _work(self, task: _Task | None) -> None:
        inbox: Inbox = queue.SimpleQueue()
        while task is not None:
            task.run()
            task = None  # it holds a connection
            task = self._next(inbox)

    def _next(self, inbox: Inbox) -> _Task | None:
        """Return what is to be done next; None: the thread is to end."""
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._idle.append(inbox)
        while True:
            try:
                return inbox.get(timeout=self._idle_time)
            except queue.Empty:
                pass
            with self._lock:
                if inbox in self._idle and self._count > self._kept:  # else work is on its way, or it is to stay
                    self._idle.remove(inbox)
                    self._count -= 1
                    return None

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no notice: idle threads end with the process, and the others are left to end their work."""
