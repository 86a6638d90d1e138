"""Source: the tar that `import` makes an image of, from the caller or from a URL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from services.graphdriver.contents.images import LayerFile
from shared.bus.context import check_cancelled, emit
from shared.bus.intake import incoming
from shared.bus.tickets import TicketServer
from shared.protocol import DockyardError, InvalidArgument
from shared.runtime.compression import ERRORS, unpacked
from shared.runtime.download import downloaded, is_web

__all__ = ["STDIN", "import_tar"]

STDIN = "-"
CHUNK = 1 << 18  # bytes


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
    """Open a URL; without a scheme it is http."""
    url = src if "://" in src else f"http://{src}"
    if not is_web(url):
        raise InvalidArgument(f"cannot import from {src!r}: neither '-' nor an http or https URL")
    try:
        with downloaded(url, _tell_progress) as download:
            _tell({"status": f"Downloading from {url}"})  # not before: what is told ends the chance of an HTTP status
            yield download.stream
    except DockyardError as error:
        if type(error) is not DockyardError:
            raise
        raise DockyardError(f"cannot import from {error.message}") from error


def _tell_progress(come: int, total: int) -> None:
    _tell({"status": "Importing", "progressDetail": {"current": come, "total": total}})


def _tell(message: dict[str, object]) -> None:
    emit(json.dumps(message), stream="progress")
