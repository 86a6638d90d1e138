"""Spares: network namespaces made in advance, so that a start does not wait for the kernel to make one (0.6 ms).

No name leads to them, only a descriptor of this process: however it ends, they end with it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque

from services.netdriver.netns import Namespace, make

__all__ = ["Spares"]

COUNT = 8  # starts at once that find one
QUIET = 0.2  # seconds without a start, after which what was taken is made anew
LOOK, RETRY = 10.0, 60.0  # seconds: how soon `stop` is seen; how soon after a failure it is tried again
log = logging.getLogger("dockyard.netdriver")


class Spares:
    """Thread-safe. Without `serve` there are none, and each is made when it is asked for."""

    def __init__(self, wanted: int = COUNT) -> None:
        self._wanted = wanted
        self._spares: deque[Namespace] = deque()
        self._was_taken = threading.Event()

    @property
    def count(self) -> int:
        """Return how many there are now."""
        return len(self._spares)

    def take(self) -> Namespace:
        """Return a namespace that is nobody else's. Raises OSError."""
        self._was_taken.set()
        try:
            return self._spares.popleft()
        except IndexError:
            return make()

    def serve(self, stop: threading.Event) -> None:
        """Make spares whenever nobody is taking any; returns when ``stop`` is set, and lets them go."""
        while not stop.wait(QUIET):
            if self._was_taken.is_set():
                self._was_taken.clear()
            elif self.count < self._wanted:
                self._fill(stop)
            else:
                self._was_taken.wait(LOOK)
        while self._spares:
            self._spares.pop().close()

    def _fill(self, stop: threading.Event) -> None:
        """Until there are enough, or somebody takes one: he has the processor now."""
        try:
            while self.count < self._wanted and not self._was_taken.is_set() and not stop.is_set():
                self._spares.append(make())
        except OSError as error:
            log.warning("no namespace can be made in advance error=%s", error)
            self._was_taken.wait(RETRY)
