"""Files: a container's log as it lies on disk, and the names by which it is rotated.

| name                    | what                                                                                     |
|-------------------------|------------------------------------------------------------------------------------------|
| ``container.log``       | what conmon writes to now; another name of the newest numbered one                       |
| ``container.log.7``     | a part of the log; the higher the number, the later                                      |
| ``container.log.7.gz``  | one that was compressed                                                                  |
| ``container.log.tmp``   | the part that conmon will write to next: it opens it and renames it to ``container.log`` |

Every part has its number before conmon writes to it, so that none is lost whoever dies when (docs/decisions/0006).
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

__all__ = ["LogFile", "LogFiles", "Part"]

NAME = "container.log"
NUMBERED = re.compile(r"container\.log\.(\d+)(\.gz)?")

LogFile = FileIO | gzip.GzipFile


@dataclass(frozen=True, order=True)
class Part:
    """``number`` 0 for a file that has no number (yet)."""

    number: int
    path: Path

    @property
    def compressed(self) -> bool:
        return self.path.suffix == ".gz"

    def inode(self) -> int:
        """Return the file's inode number; 0 if there is none."""
        try:
            return self.path.stat().st_ino
        except FileNotFoundError:
            return 0

    def open(self) -> LogFile | None:
        """Open for reading from its beginning; None if it has gone. One that was compressed meanwhile is found."""
        for path in (self.path, self.path.with_name(f"{self.path.name}.gz")):
            with contextlib.suppress(FileNotFoundError):
                return gzip.open(path) if path.suffix == ".gz" else path.open("rb", buffering=0)
        return None


@dataclass(frozen=True)
class LogFiles:
    """The log in ``directory``."""

    directory: Path

    @property
    def current(self) -> Path:
        return self.directory / NAME

    @property
    def coming(self) -> Path:
        return self.directory / f"{NAME}.tmp"

    def part(self, number: int) -> Part:
        return Part(number, self.directory / f"{NAME}.{number}")

    def numbered(self) -> list[Part]:
        """Return the numbered parts, oldest first; of a compressed one and its original, the original."""
        found: dict[int, Part] = {}
        with contextlib.suppress(FileNotFoundError):
            for entry in os.listdir(self.directory):  # noqa: PTH208  (names are all that is wanted)
                if match := NUMBERED.fullmatch(entry):
                    part = Part(int(match[1]), self.directory / entry)
                    if not part.compressed or part.number not in found:
                        found[part.number] = part
        return sorted(found.values())

    def current_inode(self) -> int:
        return Part(0, self.current).inode()

    def parts(self) -> list[Part]:
        """Return all parts, oldest first, down to the one that is written to."""
        numbered, inode = self.numbered(), self.current_inode()
        if inode and not any(part.inode() == inode for part in reversed(numbered)):
            return [*numbered, Part(0, self.current)]
        return numbered

    def after(self, number: int, inode: int) -> Part | None:
        """Return what follows part ``number``, open as ``inode``; None as long as that is written to."""
        current = self.current_inode()
        if current in (0, inode):
            return None
        for part in self.numbered():
            if part.number > number and part.inode() != inode:
                return part
        return None if any(part.inode() == current for part in self.numbered()) else Part(0, self.current)
