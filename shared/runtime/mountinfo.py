"""What is mounted, from /proc/self/mountinfo (proc_pid_mountinfo(5)). Comparing devices would miss bind mounts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MountEntry", "mount_of", "mounts_below"]

OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True)
class MountEntry:
    point: Path
    tags: frozenset[str]  # of shared, master, propagate_from, unbindable

    @classmethod
    def parse(cls, line: bytes) -> MountEntry:
        words = line.split(b" ")
        point = OCTAL.sub(lambda match: bytes([int(match[1], 8)]), words[4]).decode("utf-8", "surrogateescape")
        tags = words[6 : words.index(b"-")]
        return cls(Path(point), frozenset(tag.decode().partition(":")[0] for tag in tags))


def _entries() -> list[MountEntry]:
    return [MountEntry.parse(line) for line in Path("/proc/self/mountinfo").read_bytes().splitlines()]


def mounts_below(path: Path) -> list[Path]:
    """Return where something is mounted at or below ``path``, in the order of mounting; a place may come twice."""
    top = path.resolve()
    return [entry.point for entry in _entries() if entry.point.is_relative_to(top)]


def mount_of(path: Path) -> MountEntry:
    """Return the mount that holds ``path``."""
    found = path.resolve()
    holding = [entry for entry in _entries() if found.is_relative_to(entry.point)]
    return max(reversed(holding), key=lambda entry: len(entry.point.parts))
