"""Source: the tar that `import` makes an image of, from the caller or from a URL."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast
from urllib.parse import urlsplit

from services.graphdriver.compression import ERRORS, unpacked
from services.graphdriver.contents.images import LayerFile
from services.graphdriver.intake import incoming
from shared.bus.context import check_cancelled, emit
from shared.bus.tickets import TicketServer
from shared.protocol import DockyardError, InvalidArgument

__all__ = ["STDIN", "import_tar"]

STDIN = "-"
TIMEOUT = 30.0  # seconds in which a server must say something
CHUNK, STEP = 1 << 18, 1 << 20  # bytes


def import_tar(src: str, tickets: TicketServer, sink: LayerFile) -> bool:
    """Write the plain tar to ``sink``; True. Errors: InvalidArgument, Unavailable, DockyardError, OSError."""
    with incoming(tickets) if src == STDIN else _fetched(src) as source:
        try:
            plain = unpacked(source)
            while chunk := plain.read(CHUNK):
                check_cancelled()
                sink.write(chunk)
        except ERRORS as error:
            raise InvalidArgument(f"invalid archive: {error}") from error
    return True


@contextmanager
def _fetched(src: str) -> Iterator[IO[bytes]]:
    """Open a URL; without a scheme it is http. Nothing but http and https is opened, after redirections too."""
    url = src if "://" in src else f"http://{src}"
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).netloc:
        raise InvalidArgument(f"cannot import from {src!r}: neither '-' nor an http or https URL")
    _tell({"status": f"Downloading from {url}"})
    try:
        with _opener().open(url, timeout=TIMEOUT) as response:
            yield cast("IO[bytes]", _Download(response))
    except urllib.error.HTTPError as error:
        with error:
            raise DockyardError(f"cannot import from {url}: got HTTP status code {error.code}") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ValueError) as error:
        raise DockyardError(f"cannot import from {url}: {error}") from error


def _opener() -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


class _Download:
    """A response that tells how much of it has come, and does not take a broken connection for its end."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response, self._total = response, response.length
        self._come, self._told = 0, -STEP

    def read(self, size: int = -1) -> bytes:
        check_cancelled()
        data = self._response.read(size)
        self._come += len(data)
        if not data and self._total is not None and self._come < self._total:
            raise http.client.IncompleteRead(b"", self._total - self._come)
        if self._come - self._told >= STEP or (not data and self._told != self._come):
            self._told = self._come
            _tell({"status": "Importing", "progressDetail": {"current": self._come, "total": self._total or 0}})
        return data


def _tell(message: dict[str, object]) -> None:
    emit(json.dumps(message), stream="progress")
