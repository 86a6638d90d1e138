"""Rotation: log files are kept small and few while containers write to them (docs/decisions/0006).

A part of a log has its number before its monitor writes to it: the next one is made, numbered, and put where conmon
opens it (``container.log.tmp``); then conmon is asked by its control fifo to reopen its log. Each step may be the last
of this process: the next one goes on with what it finds. No step moves or cuts what was written.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import gzip
import logging
import os
import shutil
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from services.execdriver.bundle import Bundle
from shared.protocol import DockyardError, LogPolicy
from shared.runtime.logs.files import LogFiles, Part
from shared.runtime.logs.watch import Watches

__all__ = ["Rotation"]

INTERVAL, SHORTEST = 0.25, 0.02  # seconds between two looks at all: as a rule, and when a file grows fast
SETTLE = 0.005  # seconds between a write and the look at its file
PATIENCE = 2.0  # seconds before conmon is asked again
REOPEN = b"2 0 0\n"  # conmon's control message
FILES = ("json-file", "local")
log = logging.getLogger("dockyard.execdriver")


@dataclass
class _Watched:
    bundle: Bundle
    files: LogFiles
    policy: LogPolicy
    size: int = 0
    inode: int = 0
    due: bool = False  # conmon is to reopen it, or has not yet
    asked: float = 0.0
    complained: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class Rotation:
    """One thread looks at the files, another compresses; neither ever holds a container up."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._watches = Watches()
        self._to_compress = threading.Event()
        self._ended = False
        threading.Thread(target=self._look_after, name="rotation", daemon=True).start()
        threading.Thread(target=self._compress, name="compression", daemon=True).start()

    def close(self) -> None:
        """Have both threads end, and what they hold given back, in their own time."""
        self._ended = True
        self._wake.set()
        self._to_compress.set()

    def prepare(self, directory: Path, policy: LogPolicy) -> None:
        """Give the log its first part, before its monitor opens it. Errors: DockyardError."""
        files = LogFiles(directory)
        if policy.driver not in FILES or files.current_inode():
            return
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _name_current(files, create=True)
        except OSError as error:
            raise DockyardError(f"failed to initialize logging driver: {error}") from error

    def watch(self, bundle: Bundle, directory: Path, policy: LogPolicy) -> None:
        if policy.driver in FILES:
            with self._lock:
                watched = self._watched[bundle.container] = _Watched(bundle, LogFiles(directory), policy)
            self._watches.add(bundle.container, watched.files.current)
            self._wake.set()

    def forget(self, container: str) -> None:
        """When this returns, nobody touches the files any more; a compression under way comes to nothing."""
        with self._lock:
            watched = self._watched.pop(container, None)
        self._watches.drop(container)
        if watched is not None:
            with watched.lock, contextlib.suppress(OSError):
                self._prune(watched, watched.files.current_inode())

    def _look_after(self) -> None:
        while not self._ended:
            with self._lock:
                everything = list(self._watched.values())
            if not everything:
                self._wake.wait()
            self._wake.clear()
            if self._ended:
                break
            hurry = [self._look(watched) for watched in everything]
            if any(hurry):
                time.sleep(SHORTEST)
            else:
                self._react(INTERVAL)
        self._watches.close()

    def _react(self, seconds: float) -> None:
        """Look at what is written to within so many seconds, a moment after it was; until one is in a hurry."""
        due = time.monotonic() + seconds
        while (left := due - time.monotonic()) > 0:
            if touched := self._watches.wait(left):
                time.sleep(SETTLE)
                touched |= self._watches.wait(0)
                with self._lock:
                    those = [watched for name, watched in self._watched.items() if name in touched]
                hurry = [self._look(watched) for watched in those]
                if any(hurry):
                    return

    def _look(self, watched: _Watched) -> bool:
        """Rotate if it is time; returns whether the file grows so fast that the next look should be soon."""
        with watched.lock:
            if self._watched.get(watched.bundle.container) is not watched:
                return False
            try:
                return self._rotate(watched)
            except OSError as error:
                if not watched.complained:  # a full disk: the log goes on in the file it has, and so does the container
                    log.warning("log not rotated container=%s error=%s", watched.bundle.container, error)
                watched.complained = True
                return False

    def _rotate(self, watched: _Watched) -> bool:
        files, limit = watched.files, watched.policy.max_size
        now = files.current.stat()
        grown = now.st_size - watched.size if watched.inode == now.st_ino else now.st_size
        if watched.inode != now.st_ino:  # rotated, or seen for the first time
            watched.asked, watched.due = 0.0, files.coming.exists()
            self._watches.add(watched.bundle.container, files.current)
            self._prune(watched, now.st_ino)
        watched.size, watched.inode = now.st_size, now.st_ino
        if watched.due or now.st_size >= limit:
            if not files.coming.exists():
                if files.current_inode() != now.st_ino:  # conmon has just done it
                    return True
                _name_current(files)
                _make_next(files)
                self._watches.add(watched.bundle.container, files.coming)
            watched.due = True
            self._ask(watched)
        watched.complained = False
        return grown > limit // 8

    def _ask(self, watched: _Watched) -> None:
        """Ask conmon to reopen its log, unless it was asked and has not come to it.

        Were it asked twice all the same, it would write to a file without a number, which gets one when it is seen.
        """
        if time.monotonic() - watched.asked < PATIENCE:
            return
        with contextlib.suppress(FileNotFoundError):  # it has ended
            fifo = os.open(watched.bundle.directory / "ctl", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if not _unread(fifo):
                    os.write(fifo, REOPEN)
            finally:
                os.close(fifo)
            watched.asked = time.monotonic()

    def _prune(self, watched: _Watched, current: int) -> None:
        """Remove the oldest parts, and have those compressed that nobody writes to and no follower is still at."""
        _name_current(watched.files)
        newest, coming = self._number_of(watched.files, current), Part(0, watched.files.coming).inode()
        older = [part for part in watched.files.numbered() if part.number < newest]
        empty = [part for part in older if not part.path.stat().st_size and part.inode() != coming]  # never used
        kept = [part for part in older if part not in empty]
        for part in [*empty, *kept[: max(0, len(kept) + 1 - watched.policy.max_file)]]:
            for path in (part.path, part.path.with_name(f"{part.path.name}.gz")):
                path.unlink(missing_ok=True)
        if watched.policy.compress:
            self._to_compress.set()

    @staticmethod
    def _number_of(files: LogFiles, inode: int) -> int:
        return next((part.number for part in reversed(files.numbered()) if part.inode() == inode), 0)

    def _compress(self) -> None:
        while not self._ended:
            self._to_compress.wait()
            self._to_compress.clear()
            with self._lock:
                everything = [watched for watched in self._watched.values() if watched.policy.compress]
            for watched in everything:
                current = self._number_of(watched.files, watched.files.current_inode())
                for part in watched.files.numbered():
                    if part.number < current - 1 and not part.compressed:
                        self._compress_part(watched, part)

    def _compress_part(self, watched: _Watched, part: Part) -> None:
        temporary = part.path.with_name("compressing")
        try:
            with ExitStack() as stack:
                with self._held(watched):
                    source = stack.enter_context(part.path.open("rb"))
                    target = stack.enter_context(temporary.open("wb"))
                with gzip.GzipFile(fileobj=target, mode="wb", compresslevel=6) as packed:
                    shutil.copyfileobj(source, packed, 1 << 18)
            with self._held(watched):
                os.utime(temporary, ns=(part.path.stat().st_atime_ns, part.path.stat().st_mtime_ns))
                temporary.rename(part.path.with_name(f"{part.path.name}.gz"))
                part.path.unlink()
        except OSError as error:
            log.info("log not compressed file=%s error=%s", part.path, error)
            with contextlib.suppress(OSError):
                temporary.unlink()

    @contextlib.contextmanager
    def _held(self, watched: _Watched) -> Iterator[None]:
        """Keep a log from being forgotten meanwhile. Errors: FileNotFoundError (it was)."""
        with watched.lock:
            if self._watched.get(watched.bundle.container) is not watched:
                raise FileNotFoundError(watched.files.directory)
            yield


def _name_current(files: LogFiles, *, create: bool = False) -> None:
    """See to it that ``container.log`` has a number, the highest."""
    numbered = files.numbered()
    inode = files.current_inode()
    if inode and any(part.inode() == inode for part in reversed(numbered)):
        return
    part = files.part(max((part.number for part in numbered), default=0) + 1)
    if create and not inode:
        os.close(os.open(part.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640))
        os.link(part.path, files.current)
    else:
        os.link(files.current, part.path)


def _make_next(files: LogFiles) -> None:
    """Make the part that conmon is to write to next: named first, so that it is never seen without."""
    part = files.part(max(part.number for part in files.numbered()) + 1)
    os.close(os.open(part.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o640))
    try:
        os.link(part.path, files.coming)
    except OSError:
        part.path.unlink()
        raise


def _unread(fifo: int) -> bool:
    """Say whether conmon has messages that it has not read."""
    waiting = array.array("i", [0])
    fcntl.ioctl(fifo, termios.FIONREAD, waiting)
    return waiting[0] > 0
