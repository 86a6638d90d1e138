"""Download: what an http or https URL leads to, as a stream; no other scheme is opened, after redirections either."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, cast
from urllib.parse import quote, urlsplit, urlunsplit

from shared.bus.context import check_cancelled
from shared.protocol import DockyardError, InvalidArgument, NotFound, PermissionDenied, Unauthorized

if TYPE_CHECKING:  # 2 MB, of which few processes ever have a use: loaded by the first download
    import http.client
    import urllib.request

__all__ = ["Download", "downloaded", "is_web"]

TIMEOUT = 30.0  # seconds in which a server must say something
SAFE = "%/:?#[]@!$&'()*+,;=~"  # what is in a path or query as it is
STEP = 1 << 20  # bytes between two reports
PIECE = 1 << 17  # bytes that are read at once
BY_STATUS = {400: InvalidArgument, 401: Unauthorized, 403: PermissionDenied, 404: NotFound}  # as dockerd tells them
Tell = Callable[[int, int], None]  # (bytes that have come, bytes in all or 0)


def is_web(url: str) -> bool:
    """Say whether this is an http or https URL with a host."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)


@contextmanager
def downloaded(url: str, tell: Tell = lambda come, total: None) -> Iterator[Download]:
    """Open a URL. Errors, also of reading: InvalidArgument (no web address), `BY_STATUS`, DockyardError, Cancelled."""
    import http.client
    import urllib.error

    if not is_web(url):
        raise InvalidArgument(f"{url!r} is no http or https URL")
    try:
        with _opener().open(_escaped(url), timeout=TIMEOUT) as response:
            yield Download(response, tell)
    except urllib.error.HTTPError as error:
        with error:
            raise BY_STATUS.get(error.code, DockyardError)(f"{url}: got HTTP status code {error.code}") from error
    except urllib.error.URLError as error:
        reason = error.reason
        told = reason.strerror if isinstance(reason, OSError) and reason.strerror else reason
        raise DockyardError(f"{url}: {told}") from error
    except http.client.IncompleteRead as error:
        raise DockyardError(f"{url}: unexpected EOF: {error.expected} bytes are missing") from error
    except (http.client.InvalidURL, UnicodeError) as error:
        raise InvalidArgument(f"{url!r} is no http or https URL: {error}") from error
    except (http.client.HTTPException, ConnectionError, TimeoutError, ValueError) as error:
        raise DockyardError(f"{url}: {error}") from error


def _escaped(url: str) -> str:
    """Return a URL with what no request line may have as Go's net/url writes it. Errors: InvalidArgument."""
    parts = urlsplit(url)
    try:
        host = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
        if not re.fullmatch(r"[^\x00-\x20\x7f\"<>\\^`{|}]+", host):
            raise ValueError("a host has no such characters")
    except ValueError:
        raise InvalidArgument(f"{url!r} is no http or https URL") from None
    return urlunsplit(parts._replace(netloc=host, path=quote(parts.path, SAFE), query=quote(parts.query, SAFE)))


def _opener() -> urllib.request.OpenerDirector:
    import urllib.request

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


class Download:
    """A response that tells how much of it has come, and does not take a broken connection for its end."""

    def __init__(self, response: http.client.HTTPResponse, tell: Tell) -> None:
        self._response, self._tell, self.total = response, tell, response.length
        self._come, self._told = 0, -STEP

    def header(self, name: str) -> str:
        return self._response.headers.get(name, "")

    @property
    def stream(self) -> IO[bytes]:
        return cast("IO[bytes]", self)

    def read(self, size: int = -1) -> bytes:
        """Return ``size`` bytes, less only at the end. Errors: Cancelled, however slowly they come."""
        pieces, come = list[bytes](), 0
        while come != size and (piece := self._piece(PIECE if size < 0 else min(PIECE, size - come))):
            pieces.append(piece)
            come += len(piece)
        return b"".join(pieces)

    def _piece(self, size: int) -> bytes:
        import http.client

        check_cancelled()
        data = self._response.read1(size)
        self._come += len(data)
        if not data and self.total is not None and self._come < self.total:
            raise http.client.IncompleteRead(b"", self.total - self._come)
        if self._come - self._told >= STEP or (not data and self._told != self._come):
            self._told = self._come
            self._tell(self._come, self.total or 0)
        return data
