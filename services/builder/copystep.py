"""COPY and ADD: read, looked up in the cache, done."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from services.builder import git
from services.builder.copying import Copy, Picked, fingerprint, pick, place
from services.builder.flags import Flag, take_flags, truth
from services.builder.sources import Entry, Single, Source
from services.builder.tars import Tar
from services.builder.transfer import send, send_bytes
from shared.bus.context import check_cancelled
from shared.dockerfile.expansion import expand
from shared.dockerfile.parser import Heredoc, Instruction
from shared.dockerfile.words import json_list
from shared.protocol import Cancelled, DockyardError, InvalidArgument, NotImplementedByUs, Unavailable
from shared.protocol.reference import DIGEST
from shared.runtime.download import downloaded, is_web

if TYPE_CHECKING:
    from services.builder.steps import StageBuild

__all__ = ["copy"]

CHUNK = 1 << 20
FLAGS = {
    "copy": {"from", "chown", "chmod", "link", "parents", "exclude"},
    "add": {"chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"},
}
EXPANDED = {"checksum", "chmod", "chown", "exclude", "from"}  # in the values of these, variables are replaced
OCTAL = re.compile(r"[0-7]{1,5}")
MAX_MODE = 0o7777
DOWNLOAD_MODE, HEREDOC_MODE = 0o600, 0o644


def copy(stage: StageBuild, step: Instruction) -> None:
    """Do a COPY or an ADD. Errors: InvalidArgument, those of the jobs that are called."""
    flags, rest = take_flags(step.text, stage.build.escape)
    flags = [Flag(one.name, stage.scope.expand(one.value)) if one.name in EXPANDED else one for one in flags]
    for flag in flags:
        if flag.name == "keep-git-dir" and truth(flag.name, flag.value):
            raise NotImplementedByUs("ADD --keep-git-dir is not supported")
    files: list[IO[bytes]] = []
    try:
        read = _read(stage, step, flags, rest, files)
        read.check()
        created_by = " ".join([f"/bin/sh -c #(nop) {step.name.upper()}", *_told(flags), fingerprint(read)])
        created_by += f" in {read.destination} "
        if not stage.cached(created_by):
            stage.retried(lambda: _do(stage, read, created_by))
    finally:
        for file in files:
            file.close()


def _told(flags: list[Flag]) -> list[str]:
    """Return the flags that change what is made, but for what the digest of the files says."""
    return [f"--{flag.name}={flag.value}" for flag in flags if flag.name in ("chown", "chmod", "unpack")]


def _do(stage: StageBuild, read: Copy, created_by: str) -> None:
    with stage.build.containers.tree(stage.image) as tree:
        plan = place(read, tree)
        send(stage.build.bus, tree.container, "/", (item for items in plan.items for item in items()))
        for directory, picked in plan.archives:
            with picked.source.open(picked.path, picked.entry) as file:
                send_bytes(stage.build.bus, tree.container, directory, _pieces(file))
        stage.commit(created_by, tree.container)


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while data := file.read(CHUNK):
        check_cancelled()
        yield data


def _read(stage: StageBuild, step: Instruction, flags: list[Flag], rest: str, files: list[IO[bytes]]) -> Copy:
    """Find all that is copied; what had to be fetched is in ``files``."""
    scope, values = stage.scope, {flag.name: flag.value for flag in flags}
    words = json_list(rest)
    *sources, destination = [scope.expand(word) for word in (scope.split(rest) if words is None else words)]
    name = step.name.upper()
    origin: Source = stage.build.context.source
    if values.get("from"):
        origin = stage.build.images.tree(stage.build.other(values["from"])).source
    try:
        reading = _Reading(stage, step, origin, destination, values, files, iter(step.heredocs))
        picked = [one for word in sources for one in reading.picked(word)]
    except (Cancelled, Unavailable):
        raise
    except DockyardError as error:
        raise type(error)(f"{name} failed: {error.message}") from error
    return Copy(
        destination=_absolute(destination, stage.config.working_dir),
        picked=picked,
        instruction=name,
        chown=values.get("chown", ""),
        mode=_mode(values.get("chmod", "")),
        preserve_owner=bool(values.get("from")) and "chown" not in values,
        parents=_is_set(values, "parents"),
        exclude=[flag.value for flag in flags if flag.name == "exclude"],
    )


@dataclass(frozen=True)
class _Reading:
    """What is the same for all sources of an instruction; ``values`` are those of its flags."""

    stage: StageBuild
    step: Instruction
    origin: Source
    destination: str
    values: dict[str, str]
    files: list[IO[bytes]]
    heredocs: Iterator[Heredoc]

    def picked(self, word: str) -> list[Picked]:
        """Find what a word names."""
        adds = self.step.name == "add"
        if word.lstrip("0123456789").startswith("<<"):
            return [_heredoc(self.stage, next(self.heredocs), self.files)]
        if adds and is_web(word) and not git.is_git(word):
            return [_downloaded(self.stage, word, self.destination, self.values, self.files)]
        if adds and git.is_git(word) and "checksum" not in self.values:
            return _repository(self.stage, word, self.files)
        if "checksum" in self.values:
            raise InvalidArgument("checksum can't be specified for non-HTTP(S) sources")
        unpack = adds and truth("unpack", self.values.get("unpack", ""))
        return pick(self.origin, word, unpack=unpack, parents=_is_set(self.values, "parents"))


def _is_set(values: dict[str, str], name: str) -> bool:
    return name in values and truth(name, values[name])


def _absolute(destination: str, working_dir: str) -> str:
    """Return the destination below the working directory, with the slash at its end if it has one."""
    path = posixpath.normpath(posixpath.join("/", working_dir, destination)).replace("//", "/")
    is_directory = destination.endswith("/") or posixpath.basename(destination) in (".", "..")
    return path if path.endswith("/") or not is_directory else f"{path}/"


def _mode(text: str) -> int | None:
    if not text:
        return None
    if not OCTAL.fullmatch(text) or int(text, 8) > MAX_MODE:
        why = "it should be octal string and between 0 and 07777"
        raise InvalidArgument(f"invalid chmod parameter: '{text}'. {why}")
    return int(text, 8)


def _heredoc(stage: StageBuild, heredoc: Heredoc, files: list[IO[bytes]]) -> Picked:
    content = heredoc.content
    if heredoc.expand:
        content = expand(content, stage.scope.variables, stage.build.escape, raw=True)
    file = _scratch(stage, files)
    file.write(content.encode("utf-8", "surrogateescape"))
    file.flush()
    return _single(file, heredoc.name, HEREDOC_MODE, time.time_ns())


def _scratch(stage: StageBuild, files: list[IO[bytes]]) -> IO[bytes]:
    """Make a file without a name; who reads the instruction closes it."""
    files.append(tempfile.TemporaryFile(dir=stage.build.builder.temporary))  # noqa: SIM115
    return files[-1]


def _single(file: IO[bytes], name: str, mode: int, mtime_ns: int) -> Picked:
    entry = Entry(tarfile.REGTYPE, mode, size=os.fstat(file.fileno()).st_size, mtime_ns=mtime_ns)
    return Picked(Single(name, file, entry), name, entry, name)


def _downloaded(
    stage: StageBuild, url: str, destination: str, values: dict[str, str], files: list[IO[bytes]]
) -> Picked:
    """Fetch what a URL leads to."""
    name = posixpath.basename(unquote(urlsplit(url).path))
    if not name and destination.endswith("/"):
        raise InvalidArgument(f"cannot determine filename for url: {url}")
    wanted = values.get("checksum", "")
    if wanted and not DIGEST.fullmatch(wanted):
        raise InvalidArgument(f"invalid checksum digest format: {wanted}")
    file = _scratch(stage, files)
    digest = hashlib.sha256()

    def tell(come: int, total: int) -> None:
        stage.build.output.tell({"status": "Downloading", "progressDetail": {"current": come, "total": total}})

    with downloaded(url, tell) as download:
        mtime = _time(download.header("Last-Modified"))
        while data := download.read(CHUNK):
            digest.update(data)
            file.write(data)
    file.flush()
    if wanted and wanted != f"sha256:{digest.hexdigest()}":
        raise InvalidArgument(f"digest mismatch sha256:{digest.hexdigest()}: {wanted}")
    picked = _single(file, name or "download", DOWNLOAD_MODE, mtime)
    return Picked(picked.source, picked.path, picked.entry, picked.name, unpack=_is_set(values, "unpack"))


def _time(text: str) -> int:
    """Return nanoseconds since the epoch of an HTTP date; 0 where there is none."""
    try:
        return int(parsedate_to_datetime(text).timestamp()) * 1_000_000_000
    except (ValueError, TypeError, OverflowError):
        return 0


def _repository(stage: StageBuild, remote: str, files: list[IO[bytes]]) -> list[Picked]:
    file = _scratch(stage, files)
    git.clone(remote, stage.build.builder.temporary, file)
    return pick(Tar(file), "/")
