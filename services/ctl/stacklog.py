"""Stack log: the lines of RUN/dockyard.log (`dockyard up --detach` writes it) that speak of certain jobs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

__all__ = ["LogLine", "log_file", "search"]

HEAD = re.compile(r"(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) (?P<level>[A-Z]+) dockyard\.(?P<service>\S+) ")
JOURNAL = "jobs"  # whose lines say that a job began and ended: nothing that is not known of it
JOB = re.compile(r"\bjob=([0-9a-f]{32})\b")
FOLLOWING = 60  # lines of a traceback that are taken along


@dataclass(frozen=True)
class LogLine:
    """One line; ``at`` is seconds since the epoch."""

    job: str
    at: float
    level: str
    service: str
    text: str


def log_file(run: Path) -> Path:
    return run / "dockyard.log"


def search(path: Path, jobs: Collection[str]) -> Iterator[LogLine]:
    """Yield the lines that carry the id of one of ``jobs``, and what follows them without a head of its own
    (tracebacks). A file that cannot be read has none.
    """
    found: LogLine | None = None
    try:
        with path.open(errors="replace") as stream:
            left = 0
            for line in stream:
                head = HEAD.match(line)
                if head is None:
                    if found is not None and left > 0:
                        left -= 1
                        yield LogLine(found.job, found.at, found.level, found.service, line.rstrip("\n"))
                    continue
                found, left = _about(head, line, jobs), FOLLOWING
                if found is not None:
                    yield found
    except OSError:
        return


def _about(head: re.Match[str], line: str, jobs: Collection[str]) -> LogLine | None:
    job = next((match[1] for match in JOB.finditer(line) if match[1] in jobs), None)
    if job is None or head["service"] == JOURNAL:
        return None
    at = datetime.strptime(head["at"], "%Y-%m-%d %H:%M:%S,%f").timestamp()
    text = " ".join(JOB.sub("", line[head.end() :]).split())
    return LogLine(job, at, head["level"], head["service"], text)
