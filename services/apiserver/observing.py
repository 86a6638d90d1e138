"""Observing: what became of each request, for those who want to know: the access log, the metrics.

A request has ended when its answer has been sent, and for a stream that is when the stream ends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from services.apiserver.policy import ROUTE
from shared.bus.context import origin

__all__ = ["UPGRADED", "Observed", "Observer", "Seen", "log_access"]

UPGRADED = "dockyard.upgraded"  # in environ: the connection was taken over
LONGEST = 200  # characters of a path that the log repeats
log = logging.getLogger("dockyard.access")


@dataclass
class Seen:
    """A request. ``route``: its path with ``{}`` for names, empty for what there is not. ``seconds``: until its end."""

    method: str
    path: str
    route: str = ""
    status: int = 0
    seconds: float = 0.0
    peer: str = ""
    jobs: list[str] = field(default_factory=list)


Observer = Callable[[Seen], object]
StartResponse = Callable[..., Any]


class Observed:
    """A WSGI layer around all others; ``begun`` is called when a request begins, ``ended`` when it has ended."""

    def __init__(self, app: Callable[..., Iterable[bytes]], begun: list[Observer], ended: list[Observer]) -> None:
        self._app, self._begun, self._ended = app, begun, ended

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        seen, began = Seen(environ["REQUEST_METHOD"], environ["PATH_INFO"]), time.monotonic()
        environ["dockyard.response"] = getattr(start_response, "__self__", None)
        for observer in self._begun:
            observer(seen)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            seen.status = int(status[:3])
            return start_response(status, headers, exc_info)

        def end() -> None:
            seen.seconds = time.monotonic() - began
            seen.route = environ.get(ROUTE, "")
            seen.status = 101 if UPGRADED in environ else seen.status
            if (client := origin.get()) is not None:
                seen.peer, seen.jobs = client.peer, client.jobs
            for observer in self._ended:
                observer(seen)

        try:
            return _Body(self._app(environ, start), end)
        except BaseException:
            end()
            raise


class _Body:
    """An answer's body, that says when it is closed."""

    def __init__(self, pieces: Iterable[bytes], end: Callable[[], None]) -> None:
        self._pieces, self._end = pieces, end

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def close(self) -> None:
        try:
            if (close := getattr(self._pieces, "close", None)) is not None:
                close()
        finally:
            self._end()


def log_access(seen: Seen) -> None:
    log.info(
        "request method=%s path=%r status=%d took_ms=%d peer=%r job=%s",
        seen.method, seen.path[:LONGEST], seen.status, seen.seconds * 1000, seen.peer, ",".join(seen.jobs) or "-",
    )  # fmt: skip
