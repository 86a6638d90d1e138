"""Context: what a build begins with: a tar from its caller, or what its ``remote`` leads to; and the Dockerfile in it.

The context is a file without a name: whatever becomes of the build, nothing of it stays on disk.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from services.builder import git
from services.builder.sources import Source, clean, follow
from services.builder.tars import Tar
from shared.bus.context import check_cancelled
from shared.bus.intake import incoming
from shared.bus.tickets import TicketServer
from shared.dockerfile.ignore import Ignore, read_patterns
from shared.protocol import BuildImage, DockyardError, InvalidArgument
from shared.runtime.compression import ERRORS, MAX_UNPACKED, unpacked
from shared.runtime.download import downloaded, is_web

__all__ = ["Context", "opened", "spool"]

CHUNK = 1 << 20
MAX_TEXT = 4 << 20  # bytes of a Dockerfile, of a .dockerignore
DOCKERFILE = "Dockerfile"
TAR_MAGIC, TAR_MAGIC_OFFSET = b"ustar", 257


@dataclass(frozen=True)
class Context:
    """``dockerfile``: its text."""

    source: Source
    dockerfile: str


@contextmanager
def opened(job: BuildImage, tickets: TicketServer, temporary: Path, say: Callable[[str], None]) -> Iterator[Context]:
    """Have a build's context. Errors: InvalidArgument, Unavailable, DockyardError, OSError."""
    with tempfile.TemporaryFile(dir=temporary) as file:
        text = _fetch(job, tickets, temporary, file, say)
        if text is not None:
            yield Context(Tar(io.BytesIO()), text)
            return
        source = Tar(file)
        dockerfile, name = _dockerfile(source, job.dockerfile)
        source.leave_out(_ignored(source, name))
        yield Context(source, dockerfile)


def spool(source: IO[bytes], file: IO[bytes]) -> None:
    """Write what comes, unpacked. Errors: InvalidArgument (broken, or more than `MAX_UNPACKED`), Cancelled."""
    size = 0
    try:
        plain = unpacked(source)
        while chunk := plain.read(CHUNK):
            check_cancelled()
            size += len(chunk)
            if size > MAX_UNPACKED:
                raise InvalidArgument(f"the build context unpacks to more than {MAX_UNPACKED} bytes")
            file.write(chunk)
    except ERRORS as error:
        raise InvalidArgument(f"Error processing tar file: {error}") from error
    file.flush()


def _fetch(
    job: BuildImage, tickets: TicketServer, temporary: Path, file: IO[bytes], say: Callable[[str], None]
) -> str | None:
    """Write the context to ``file``; returns the Dockerfile's text where that is all there is."""
    if not job.remote:
        with incoming(tickets) as source:
            spool(source, file)
            while source.read(CHUNK):  # what follows the archive's end
                continue
        return None
    if git.is_git(job.remote):
        git.clone(job.remote, temporary, file)
        return None
    if not is_web(job.remote):
        raise InvalidArgument(f"remote context could not be understood: {job.remote}")
    say(f"Downloading build context from remote url: {job.remote}\n")
    with downloaded(job.remote) as download:
        spool(cast("IO[bytes]", io.BufferedReader(_Raw(download.stream), CHUNK)), file)
    if _is_tar(file):
        return None
    file.seek(0)
    return _text(file.read(MAX_TEXT + 1), job.remote)


class _Raw(io.RawIOBase):
    def __init__(self, source: IO[bytes]) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        data = self._source.read(len(view))
        view[: len(data)] = data
        return len(data)


def _is_tar(file: IO[bytes]) -> bool:
    file.seek(TAR_MAGIC_OFFSET)
    return file.read(len(TAR_MAGIC)) == TAR_MAGIC


def _dockerfile(source: Tar, asked: str) -> tuple[str, str]:
    """Return the Dockerfile's text and its path in the context."""
    name = clean(asked or DOCKERFILE)
    for candidate in (name, name.lower()) if name == DOCKERFILE else (name,):
        if (text := _read(source, candidate)) is not None:
            if not text.strip():
                raise InvalidArgument(f"the Dockerfile ({asked or DOCKERFILE}) cannot be empty")
            return text, candidate
    raise InvalidArgument(f"Cannot locate specified Dockerfile: {asked or DOCKERFILE}")


def _read(source: Tar, path: str) -> str | None:
    path = follow(source, path)
    entry = source.entry(path)
    if entry is None or not entry.is_file:
        return None
    with source.open(path, entry) as file:
        return _text(file.read(MAX_TEXT + 1), path)


def _text(data: bytes, what: str) -> str:
    if len(data) > MAX_TEXT:
        raise InvalidArgument(f"{what} is larger than {MAX_TEXT} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DockyardError(f"{what} is no text: {error}") from error


def _ignored(source: Tar, dockerfile: str) -> Callable[[str], bool]:
    """Return what says which paths are left out: the file of the Dockerfile's own name counts before the general."""
    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
        if (text := _read(source, name)) is not None:
            return Ignore(read_patterns(text)).excludes
    return lambda path: False
