"""Changes: in what a container differs from the layers that it began with.

overlayfs has written down what changed: only that is looked at. With whiteouts and opaque directories it says what is
gone; the names of it are in the tree below. Where there is but a copy (vfs), both trees are gone through. A directory
whose content changed is a change too, told before its content. What was made before the start is none.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from services.graphdriver.apply import OPAQUE_XATTR, WHITEOUT_DEVICE
from services.graphdriver.pack import GONE, open_directory
from shared.bus.context import check_cancelled
from shared.protocol import ADDED, DELETED, MODIFIED

__all__ = ["MOUNTS", "MTAB", "Change", "changes"]

CAPABILITY = "security.capability"
MTAB, MOUNTS = "etc/mtab", "/proc/mounts"
# Directories, empty files and links that a runtime makes; a directory counts as soon as something else is in it.
MADE_TO_MOUNT_ON = frozenset({
    "dev", "proc", "sys", "etc", "etc/hosts", "etc/hostname", "etc/resolv.conf", "sbin", "sbin/docker-init",
    ".dockerenv", MTAB,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """``path`` is relative to the root."""

    path: str
    kind: int


@dataclass(slots=True)
class _Entry:
    """One name in both trees; None where it is not."""

    name: str
    above: os.stat_result | None
    below: os.stat_result | None
    capable: bool = False  # its capabilities differ


@dataclass(slots=True)
class _Level:
    """A directory under way. ``kind``: how it is told of, with the first change in it; None once that is done."""

    path: str
    kind: int | None
    entries: list[_Entry] = field(default_factory=list)  # the next one last


def changes(above: Path, below: Path, *, sparse: bool, mounted: frozenset[str] = frozenset()) -> Iterator[Change]:
    """Yield the changes from ``below`` to ``above``, in the order of paths; ``sparse``: as overlayfs writes it.

    ``mounted``: further paths that were made to mount on.
    What changes meanwhile is told of in either state. Errors: OSError.
    """
    with ExitStack() as stack:
        roots = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in (above, below)]
        for root in roots:
            stack.callback(os.close, root)
        yield from _Comparison(roots[0], roots[1], sparse, MADE_TO_MOUNT_ON | mounted)


class _Comparison:
    def __init__(self, above: int, below: int, sparse: bool, mounted: frozenset[str]) -> None:
        self._above, self._below, self._sparse, self._mounted = above, below, sparse, mounted

    def __iter__(self) -> Iterator[Change]:
        levels = [self._level("", None, compared=True)]
        while levels:
            check_cancelled()
            level = levels[-1]
            if not level.entries:
                levels.pop()
                continue
            entry = level.entries.pop()
            path = f"{level.path}/{entry.name}" if level.path else entry.name
            due = _kind(entry)
            if due is not None and not (due == ADDED and path in self._mounted):
                yield from _tell(levels, Change(path, due))
                due = None
            elif due is None:
                due = MODIFIED  # if it is a directory in which something is
            elif _has_content(path, entry):
                yield from _tell(levels, Change(path, due))
            if _is_directory(entry.above):
                levels.append(self._level(path, due, compared=_is_directory(entry.below)))

    def _level(self, path: str, kind: int | None, *, compared: bool) -> _Level:
        """Look at a directory; with ``compared`` it is in both trees."""
        level = _Level(path, kind)
        with ExitStack() as stack:
            try:
                above = stack.enter_context(open_directory(self._above, path))
                below = stack.enter_context(open_directory(self._below, path)) if compared else None
            except OSError as error:
                if error.errno not in GONE:
                    raise
                return level
            names = set(os.listdir(above))  # noqa: PTH208
            if below is not None and (not self._sparse or _is_opaque(above)):
                names |= set(os.listdir(below))  # noqa: PTH208
            level.entries = [self._entry(name, above, below) for name in sorted(names, reverse=True)]
        return level

    def _entry(self, name: str, above: int, below: int | None) -> _Entry:
        entry = _Entry(name, _stat(name, above), None if below is None else _stat(name, below))
        if self._sparse and entry.above is not None and _is_whiteout(entry.above):
            entry.above = None
        if below is not None and entry.above is not None and entry.below is not None:
            entry.capable = stat.S_ISREG(entry.above.st_mode) and _capability(above, name) != _capability(below, name)
        return entry


def _tell(levels: list[_Level], change: Change) -> Iterator[Change]:
    """Tell of the directories that lead to a change, where that is due, and of itself."""
    for level in levels:
        if level.kind is not None:
            yield Change(level.path, level.kind)
            level.kind = None
    yield change


def _kind(entry: _Entry) -> int | None:
    """Compare as moby's statDifferent; None where nothing is different."""
    above, below = entry.above, entry.below
    if above is None:
        return None if below is None else DELETED
    if below is None:
        return ADDED
    same = (above.st_mode, above.st_uid, above.st_gid, above.st_rdev) == (
        below.st_mode, below.st_uid, below.st_gid, below.st_rdev,
    )  # fmt: skip
    if same and not stat.S_ISDIR(above.st_mode):
        same = (above.st_mtime_ns, above.st_size) == (below.st_mtime_ns, below.st_size) and not entry.capable
    return None if same else MODIFIED


def _is_directory(status: os.stat_result | None) -> bool:
    return status is not None and stat.S_ISDIR(status.st_mode)


def _has_content(path: str, entry: _Entry) -> bool:
    if entry.above is None or stat.S_ISDIR(entry.above.st_mode):
        return False
    if path == MTAB and stat.S_ISLNK(entry.above.st_mode):
        return entry.above.st_size != len(MOUNTS)
    return entry.above.st_size > 0


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == WHITEOUT_DEVICE


def _stat(name: str, directory: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_opaque(directory: int) -> bool:
    return _xattr(directory, OPAQUE_XATTR) == b"y"


def _capability(directory: int, name: str) -> bytes:
    return _xattr(f"/proc/self/fd/{directory}/{name}", CAPABILITY)


def _xattr(file: int | str, name: str) -> bytes:
    try:
        return os.getxattr(file, name, **({} if isinstance(file, int) else {"follow_symlinks": False}))
    except OSError:  # it has none, or no file system that could
        return b""
