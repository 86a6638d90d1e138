"""Caches: the directories that `RUN --mount=type=cache` mounts, which outlive their builds.

| file             | is                                                                             |
|------------------|--------------------------------------------------------------------------------|
| KEY/data         | what is mounted                                                                |
| KEY/cache.json   | what it is called, when it was made and used last, and how often               |

KEY is a digest of the cache's id; of one that is ``private`` while it is in use there are several.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from services.builder.flags import truth
from shared.bus.context import check_cancelled, waiting_for
from shared.protocol import BuildCache, BuildCachePruned, InvalidArgument

__all__ = ["Caches"]

POLL_INTERVAL = 0.1  # seconds
DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
# of the Docker Engine API, /build/prune; a cache has neither parents nor labels
TESTS: dict[str, Callable[[BuildCache, str], bool]] = {
    "id": lambda shown, value: shown.id.startswith(value),
    "type": lambda shown, value: shown.type == value,
    "description": lambda shown, value: shown.description == value,
    "inuse": lambda shown, value: shown.in_use == truth("inuse", value),
    "shared": lambda shown, value: shown.shared == truth("shared", value),
    "private": lambda shown, value: shown.shared != truth("private", value),
    "parent": lambda _shown, _value: False,
    "label": lambda _shown, _value: False,
    "label!": lambda _shown, _value: True,
}
TIMES = ("until", "unused-for")


class _Facts(msgspec.Struct):
    """Times in seconds since the epoch."""

    name: str
    created: float
    used: float
    count: int = 0


@dataclass
class _Cache:
    key: str
    facts: _Facts
    size: int


class Caches:
    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in root.glob(".*"):
            shutil.rmtree(left, ignore_errors=True)  # half made, or half removed
        self._users: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def used(self, name: str, sharing: str, mode: int, owner: tuple[int, int]) -> Iterator[tuple[Path, bool]]:
        """Have a cache's directory; yields it, and whether it is new. ``mode`` and ``owner`` are those of a new one.

        ``sharing``: ``shared`` with others at the same time, ``locked`` one after another, ``private`` each another.
        """
        key = self._take(name, sharing)
        try:
            path = self._root / key / "data"
            new = not path.exists()
            if new:
                self._make(key, name, mode, owner)
            self._note(key, name)
            yield path, new
        finally:
            with self._lock:
                self._users[key] -= 1
                if not self._users[key]:
                    del self._users[key]

    def _take(self, name: str, sharing: str) -> str:
        key, number = hashlib.sha256(name.encode()).hexdigest()[:32], 0
        with waiting_for(f"the build cache {name}"):
            while True:
                with self._lock:
                    this = f"{key}-{number}" if number else key
                    if sharing == "shared" or not self._users[this]:
                        self._users[this] += 1
                        return this
                if sharing == "private":
                    number += 1
                    continue
                check_cancelled()
                time.sleep(POLL_INTERVAL)

    def _make(self, key: str, name: str, mode: int, owner: tuple[int, int]) -> None:
        temporary = self._root / f".{secrets.token_hex(8)}"
        data = temporary / "data"
        data.mkdir(mode=0o700, parents=True)
        os.chown(data, *owner)
        data.chmod(mode)
        now = time.time()
        (temporary / "cache.json").write_bytes(msgspec.json.encode(_Facts(name, now, now)))
        try:
            temporary.rename(self._root / key)
        except OSError:  # another build was quicker
            shutil.rmtree(temporary)

    def _note(self, key: str, name: str) -> None:
        facts = self._facts(key) or _Facts(name, time.time(), time.time())
        facts.used, facts.count = time.time(), facts.count + 1
        temporary = self._root / key / f"cache.{secrets.token_hex(4)}"
        temporary.write_bytes(msgspec.json.encode(facts))
        temporary.rename(self._root / key / "cache.json")

    def _facts(self, key: str) -> _Facts | None:
        try:
            return msgspec.json.decode((self._root / key / "cache.json").read_bytes(), type=_Facts)
        except (OSError, msgspec.DecodeError):
            return None

    # -- what there is

    def _all(self) -> list[_Cache]:
        found = []
        for path in sorted(self._root.iterdir()):
            facts = self._facts(path.name) if not path.name.startswith(".") else None
            if facts is not None:
                found.append(_Cache(path.name, facts, _size(path / "data")))
        return found

    def shown(self) -> list[BuildCache]:
        return [self._show(cache) for cache in self._all()]

    def _show(self, cache: _Cache) -> BuildCache:
        return BuildCache(
            id=cache.key,
            type="exec.cachemount",
            description=f"cached mount {cache.facts.name}",
            in_use=self._users[cache.key] > 0,
            shared=False,
            size=cache.size,
            created_at=_rfc3339(cache.facts.created),
            last_used_at=_rfc3339(cache.facts.used),
            usage_count=cache.facts.count,
        )

    def prune(self, filters: dict[str, list[str]], keep_storage: int = 0) -> BuildCachePruned:
        for key in sorted(set(filters) - {*TESTS, *TIMES}):
            raise InvalidArgument(f"invalid filter '{key}'")
        limits = [_limit(text) for name in TIMES for text in filters.get(name, [])]
        caches = sorted(self._all(), key=lambda cache: cache.facts.used)
        left = sum(cache.size for cache in caches)
        pruned = BuildCachePruned(caches_deleted=[], space_reclaimed=0)
        for cache in caches:
            chosen = all(cache.facts.used < limit for limit in limits)
            chosen &= _matches(self._show(cache), filters)
            if chosen and left > keep_storage - (not keep_storage) and self._remove(cache.key):
                left -= cache.size
                pruned.caches_deleted.append(cache.key)
                pruned.space_reclaimed += cache.size
        return pruned

    def _remove(self, key: str) -> bool:
        """Remove a cache, unless a build has it."""
        doomed = self._root / f".{secrets.token_hex(8)}"
        with self._lock:
            if self._users[key]:
                return False
            try:
                (self._root / key).rename(doomed)
            except FileNotFoundError:
                return False
        shutil.rmtree(doomed, ignore_errors=True)
        return True


def _matches(shown: BuildCache, filters: dict[str, list[str]]) -> bool:
    """Say whether a cache has one value of each filter."""
    return all(
        any(TESTS[name](shown, value) for value in values)
        for name, values in filters.items()
        if name in TESTS and values
    )


def _limit(text: str) -> float:
    """Return the time, in seconds since the epoch, before which something was last used. Errors: InvalidArgument."""
    match = DURATION.fullmatch(text)
    if text and match is not None:
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return time.time() - 3600 * hours - 60 * minutes - seconds
    try:
        return float(text)
    except ValueError:
        raise InvalidArgument(f"invalid filter 'until={text}'") from None


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _size(path: Path) -> int:
    """Return the bytes of all files under a directory, of hard links once; what goes meanwhile does not count."""
    total, pending = 0, [os.fspath(path)]
    linked: set[int] = set()
    while pending:
        check_cancelled()
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                        continue
                    status = entry.stat(follow_symlinks=False)
                    if status.st_nlink == 1 or status.st_ino not in linked:
                        total += status.st_size
                    if status.st_nlink > 1:
                        linked.add(status.st_ino)
        except OSError:
            continue
    return total
