"""Copying: COPY and ADD (Dockerfile reference): what is copied, what it is called in the cache, and where it goes."""

from __future__ import annotations

import hashlib
import posixpath
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from services.builder.containers import FileTree
from services.builder.sources import Entry, Source, clean, follow, glob, walk
from services.builder.tarstream import Item, Owner
from shared.bus.context import check_cancelled
from shared.dockerfile.ignore import compile_glob
from shared.protocol import InvalidArgument
from shared.runtime.compression import ERRORS, unpacked
from shared.runtime.members import TAR_ERRORS
from shared.runtime.user import resolve_user

__all__ = ["Copy", "Picked", "Plan", "fingerprint", "pick", "place"]

CHUNK = 1 << 20
DIRECTORY_MODE = 0o755
NO_TAR: tuple[type[Exception], ...] = (*ERRORS, *TAR_ERRORS, OSError)


@dataclass(frozen=True)
class Picked:
    """Something that is copied: ``path`` in ``source``; ``name`` what it is called at its destination.

    ``parents``: the directories above it that it brings along. ``unpack``: an archive whose content is meant, if it
    is one.
    """

    source: Source
    path: str
    entry: Entry
    name: str
    parents: str = ""
    unpack: bool = False


@dataclass(frozen=True)
class Copy:
    """An instruction, its variables replaced. ``destination`` is absolute, with a slash at its end if it had one."""

    destination: str
    picked: list[Picked]
    instruction: str = "COPY"
    chown: str = ""
    mode: int | None = None
    preserve_owner: bool = False
    parents: bool = False
    exclude: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Errors: InvalidArgument."""
        if not self.picked:
            raise InvalidArgument(f"{self.instruction} failed: no source files were specified")
        if len(self.picked) > 1 and not self.destination.endswith("/"):
            why = "the destination must be a directory and end with a /"
            raise InvalidArgument(f"When using {self.instruction} with more than one source file, {why}")


def pick(source: Source, word: str, *, unpack: bool = False, parents: bool = False) -> list[Picked]:
    """Find what a word names in a source: a path, or a pattern. Errors: InvalidArgument (nothing)."""
    wanted = clean(word)
    pattern = any(sign in wanted for sign in "*?[")
    found = []
    for path in glob(source, wanted) if pattern else [wanted]:
        resolved = follow(source, path)
        entry = source.entry(resolved)
        if entry is not None:
            above = _parents(word, path) if parents else ""
            found.append(Picked(source, resolved, entry, posixpath.basename(path), above, unpack and entry.is_file))
    if not found:
        if pattern:
            raise InvalidArgument("no source files were specified")
        why = "file not found in build context or excluded by .dockerignore"
        raise InvalidArgument(f"{why}: stat {word}: file does not exist")
    return found


def _parents(word: str, path: str) -> str:
    """Return the directories to be made of a path: those behind a ``/./`` in the word, if it has one."""
    above = posixpath.dirname(path)
    pivot = word.rfind("/./")
    if pivot < 0:
        return above
    cut = clean(word[:pivot])
    return above.removeprefix(cut).strip("/")


# -- the cache


def fingerprint(copy: Copy) -> str:
    """Return what the copied files are called: ``file:``, ``dir:`` or ``multi:`` and a digest of all but times."""
    digests = [_digest(copy, picked) for picked in copy.picked]
    if len(digests) == 1:
        kind = "dir" if copy.picked[0].entry.is_directory else "file"
        return f"{kind}:{digests[0]}"
    return f"multi:{hashlib.sha256(','.join(digests).encode()).hexdigest()}"


def _digest(copy: Copy, picked: Picked) -> str:
    whole = hashlib.sha256()
    for below, entry in _wanted(copy, picked):
        name = below if picked.entry.is_directory else picked.name
        facts: list[object] = [f"{picked.parents}/{name}", entry.kind, entry.link, *sorted(entry.xattrs.items())]
        if entry.kind != tarfile.SYMTYPE:  # whose mode is what the file system makes it
            facts.append(entry.mode)
        if copy.preserve_owner:
            facts += [entry.uid, entry.gid]
        if entry.kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
            facts.append(entry.device)
        if entry.is_file:
            facts.append(_content_digest(picked.source, f"{picked.path}/{below}".strip("/"), entry))
        whole.update(repr(facts).encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _content_digest(source: Source, path: str, entry: Entry) -> str:
    content = hashlib.sha256()
    with source.open(path, entry) as file:
        while data := file.read(CHUNK):
            check_cancelled()
            content.update(data)
    return content.hexdigest()


def _wanted(copy: Copy, picked: Picked) -> Iterator[tuple[str, Entry]]:
    """Yield what of something picked is copied: all but what is excluded."""
    patterns = [compile_glob(clean(pattern)) for pattern in copy.exclude]
    if not patterns:
        yield from walk(picked.source, picked.path)
        return
    left_out: set[str] = set()
    for below, entry in walk(picked.source, picked.path):
        name = below or picked.name
        if posixpath.dirname(below) in left_out or any(pattern.fullmatch(name) for pattern in patterns):
            if below:
                left_out.add(below)
            continue
        yield below, entry


# -- the destination


@dataclass(frozen=True)
class Plan:
    """``items`` for the root of the container; then ``archives``: (directory, what is to be unpacked there)."""

    items: list[Callable[[], Iterator[Item]]]
    archives: list[tuple[str, Picked]]


def place(copy: Copy, tree: FileTree) -> Plan:
    """Say what is to be written where, links in the destination followed. Errors: InvalidArgument."""
    return _Placing(copy, tree).plan()


class _Placing:
    def __init__(self, copy: Copy, tree: FileTree) -> None:
        self._copy, self._tree = copy, tree
        self._owner: Owner = None if copy.preserve_owner else (0, 0)
        self._made: set[str] = set()
        if copy.chown:
            name, _, group = copy.chown.partition(":")
            user = resolve_user(tree.path, f"{name}:{group or name}", [])
            self._owner = (user.uid, user.gid)

    def plan(self) -> Plan:
        items: list[Callable[[], Iterator[Item]]] = []
        archives: list[tuple[str, Picked]] = []
        for picked in self._copy.picked:
            target = self._target(picked)
            if picked.unpack and _is_archive(picked):
                directory = follow(self._tree.source, clean(self._copy.destination))
                items.append(self._lister(self._directories(directory)))
                archives.append((f"/{directory}", picked))
            else:
                directory = target if picked.entry.is_directory else posixpath.dirname(target)
                items += [self._lister(self._directories(directory)), self._contents(picked, target)]
        return Plan(items, archives)

    def _target(self, picked: Picked) -> str:
        destination = self._copy.destination
        directory = destination.endswith("/") or posixpath.basename(destination) == "."
        wanted = posixpath.join(destination, picked.parents) if picked.parents else destination
        target = follow(self._tree.source, clean(wanted))
        if picked.entry.is_directory:
            if self._copy.parents:
                return follow(self._tree.source, f"{target}/{picked.name}".strip("/"))
            return target
        existing = self._tree.source.entry(target)
        if directory or self._copy.parents or (existing is not None and existing.is_directory):
            return f"{target}/{picked.name}".strip("/")
        return target

    def _directories(self, path: str) -> list[Item]:
        """Return those directories that are missing, down to ``path``."""
        parts = path.split("/") if path else []
        missing = []
        for count in range(1, len(parts) + 1):
            here = "/".join(parts[:count])
            entry = self._tree.source.entry(here)
            if entry is not None and not entry.is_directory:
                raise InvalidArgument(f"cannot copy to non-directory: /{here}")
            if entry is None and here not in self._made:
                self._made.add(here)
                made = Entry(tarfile.DIRTYPE, DIRECTORY_MODE, mtime_ns=time.time_ns())
                missing.append(Item(here, made, owner=self._owner if self._copy.chown else (0, 0)))
        return missing

    def _lister(self, items: list[Item]) -> Callable[[], Iterator[Item]]:
        return lambda: iter(items)

    def _contents(self, picked: Picked, target: str) -> Callable[[], Iterator[Item]]:
        def contents() -> Iterator[Item]:
            for below, entry in _wanted(self._copy, picked):
                if not below and picked.entry.is_directory:
                    continue  # what is copied is what is in it
                name = f"{target}/{below}".strip("/")
                path = f"{picked.path}/{below}".strip("/")
                yield Item(name, entry, picked.source, path, self._owner, self._copy.mode)

        return contents


def _is_archive(picked: Picked) -> bool:
    """Say whether a file is a tar, packed with gzip, bzip2, xz, zstd or not at all."""
    with picked.source.open(picked.path, picked.entry) as file:
        try:
            plain = unpacked(file)
            with tarfile.open(fileobj=plain, mode="r|") as archive:
                return archive.next() is not None
        except NO_TAR:
            return False
