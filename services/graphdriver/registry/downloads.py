"""Downloads: blobs on their way into the content store. Who asks for one that is coming already waits for the same.

A download is a thread and a file in tmp/: the file becomes a blob by a rename once its digest is right. It goes on as
long as anybody waits for it. A transfer that breaks off is resumed where it ended (Range, RFC 9110 §14.2).
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import urllib3

from services.graphdriver.blobs import Blobs
from services.graphdriver.registry.answers import Refused
from services.graphdriver.registry.transport import TRANSPORT_ERRORS, Unreachable, explain
from shared.bus.context import check_cancelled
from shared.protocol import Cancelled, Descriptor, DockyardError, InvalidArgument, from_code
from shared.runtime.reasons import reason

__all__ = ["DONE", "DOWNLOADING", "Downloads", "Told"]

CHUNK = 1 << 16
LOOK = 0.1  # seconds between two looks at a download by who waits for it
MAX_DELAY = 8.0  # seconds before another attempt
DOWNLOADING, DONE = "Downloading", "Download complete"

Open = Callable[[int], urllib3.BaseHTTPResponse]  # begins to fetch at an offset
Told = Callable[[str, int], None]  # state, and bytes that are here
log = logging.getLogger("dockyard.registry")


class Downloads:
    """``attempts``: how often in a row a transfer may fail without a byte of progress."""

    def __init__(self, blobs: Blobs, temporary: Path, attempts: int) -> None:
        self._blobs, self._temporary, self._attempts = blobs, temporary, attempts
        self._under_way: dict[tuple[str, str], _Download] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._under_way)

    def fetch(
        self,
        descriptor: Descriptor,
        source: str,
        open_at: Open,
        told: Told,
        check: Callable[[], None] = check_cancelled,
    ) -> None:
        """Have a blob in the store, which the caller holds; returns when it is there. ``source`` names where from.

        ``check`` raises when it is not wanted any more. Errors: that, InvalidArgument (it is not what the descriptor
        says), DockyardError, and what a registry's refusal is.
        """
        download = self._join(descriptor, source, open_at)
        try:
            download.follow(told, check)
        finally:
            self._leave(download)
        if self._blobs.size(descriptor.digest) != descriptor.size:
            raise InvalidArgument(f"blob {descriptor.digest} is not of {descriptor.size} bytes")

    def _join(self, descriptor: Descriptor, source: str, open_at: Open) -> _Download:
        key = (source, descriptor.digest)
        with self._lock:
            download = self._under_way.get(key)
            if download is None or download.given_up.is_set():
                download = self._under_way[key] = _Download(key, descriptor, open_at, self._attempts)
                threading.Thread(target=self._run, args=(download,), name="download", daemon=True).start()
            download.waiting += 1
            return download

    def _leave(self, download: _Download) -> None:
        with self._lock:
            download.waiting -= 1
            if not download.waiting:
                download.give_up()

    def _run(self, download: _Download) -> None:
        path = self._temporary / secrets.token_hex(8)
        failure: DockyardError | None = None
        try:
            if not self._blobs.has(download.descriptor.digest):
                with path.open("xb") as file:
                    download.run(file)
                self._blobs.adopt(path, download.descriptor.digest)
        except DockyardError as error:
            failure = error
        except Refused as refused:
            failure = refused.error()
        except OSError as error:
            failure = DockyardError(f"blob {download.descriptor.digest} not written: {reason(error)}")
        except Exception as error:
            if not download.given_up.is_set():
                log.exception("download failed digest=%s", download.descriptor.digest)
            failure = DockyardError(f"blob {download.descriptor.digest}: {type(error).__name__}")
        finally:
            path.unlink(missing_ok=True)
            with self._lock:
                if self._under_way.get(download.key) is download:
                    del self._under_way[download.key]
        download.end(failure)


class _Download:
    """``waiting``: how many follow it; once nobody does, it is ``given_up``."""

    def __init__(self, key: tuple[str, str], descriptor: Descriptor, open_at: Open, attempts: int) -> None:
        self.key, self.descriptor, self.waiting = key, descriptor, 0
        self.given_up = threading.Event()
        self._open, self._attempts = open_at, attempts
        self._state: tuple[str, int] = (DOWNLOADING, 0)
        self._ended = threading.Event()
        self._failure: DockyardError | None = None
        self._answer: urllib3.BaseHTTPResponse | None = None  # that is read at present

    # -- who waits

    def follow(self, told: Told, check: Callable[[], None]) -> None:
        shown: tuple[str, int] | None = None
        while True:
            ended = self._ended.wait(LOOK)
            if self._failure is not None:
                raise from_code(self._failure.code, self._failure.message)
            if (state := self._state) != shown:
                told(*state)
                shown = state
            if ended:
                return
            check()

    def end(self, failure: DockyardError | None) -> None:
        self._failure = failure
        self._state = (DONE, self.descriptor.size)
        self._ended.set()

    def give_up(self) -> None:
        """End the transfer, also where the registry sends nothing."""
        self.given_up.set()
        if isinstance(answer := self._answer, urllib3.HTTPResponse):
            with suppress(ValueError, RuntimeError, OSError):  # it has come to its end meanwhile
                answer.shutdown()

    # -- the transfer

    def run(self, file: IO[bytes]) -> None:
        partial, furthest, failed = _Partial(file), 0, 0
        while True:
            try:
                self._transfer(partial)
                break
            except (Unreachable, Refused, *TRANSPORT_ERRORS) as error:
                if isinstance(error, Refused) and not error.is_passing:
                    raise
                failed = 1 if partial.size > furthest else failed + 1
                furthest = max(furthest, partial.size)
                if failed >= self._attempts:
                    raise self._lost(error) from error
                self._pause(error, failed, partial.size)
        if (found := f"sha256:{partial.hasher.hexdigest()}") != self.descriptor.digest:
            raise InvalidArgument(f"blob {self.descriptor.digest} does not match its digest: {found}")

    def _transfer(self, partial: _Partial) -> None:
        answer = self._answer = self._open(partial.size)
        try:
            self._check(answer, partial)
            while piece := self._read(answer):
                if partial.size + len(piece) > self.descriptor.size:
                    raise InvalidArgument(f"blob {self.descriptor.digest} is larger than the manifest says")
                partial.write(piece)
                self._state = (DOWNLOADING, partial.size)
            if partial.size < self.descriptor.size and "Content-Length" in answer.headers:  # it has come whole
                raise InvalidArgument(f"blob {self.descriptor.digest} is not of {self.descriptor.size} bytes")
            if partial.size < self.descriptor.size:
                raise Unreachable(f"unexpected EOF after {partial.size} of {self.descriptor.size} bytes")
            answer.release_conn()
        finally:
            self._answer = None
            if partial.size < self.descriptor.size:
                answer.close()

    def _read(self, answer: urllib3.BaseHTTPResponse) -> bytes:
        if self.given_up.is_set():
            raise Cancelled("nobody waits for the blob any more")
        return answer.read1(CHUNK)

    def _check(self, answer: urllib3.BaseHTTPResponse, partial: _Partial) -> None:
        encoding = answer.headers.get("Content-Encoding", "").lower()
        if encoding not in ("", "identity"):
            raise InvalidArgument(f"blob {self.descriptor.digest}: unexpected content encoding {encoding[:50]!r}")
        if answer.status != 206:
            partial.restart()
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {partial.size}-"):
            raise InvalidArgument(f"blob {self.descriptor.digest}: the registry sent another range than was asked for")

    def _pause(self, error: Exception, failed: int, size: int) -> None:
        why = str(error) if isinstance(error, DockyardError | Refused) else explain(error)
        log.info("transfer broke off digest=%s at=%d error=%s", self.descriptor.digest, size, why)
        delay = min(MAX_DELAY, 2.0 ** (failed - 2))
        self._state = (f"Retrying in {delay:.0f} seconds" if delay > 1 else "Retrying in 1 second", size)
        if self.given_up.wait(delay):
            raise Cancelled("nobody waits for the blob any more")

    def _lost(self, error: Exception) -> DockyardError:
        if isinstance(error, Refused):
            return error.error()
        return (
            error
            if isinstance(error, DockyardError)
            else DockyardError(f"blob {self.descriptor.digest}: {explain(error)}")
        )


class _Partial:
    """What has come of a blob."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.hasher, self.size = file, hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.hasher.update(data)
        self.size += len(data)

    def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self.hasher, self.size = hashlib.sha256(), 0
