"""Selection: what of a log is wanted, and how it is to look."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote_plus

from shared.protocol import ContainerLogs, LogStream

__all__ = ["Selection", "selection_of"]


@dataclass(frozen=True)
class Selection:
    """``since`` and ``until`` in nanoseconds since the epoch, 0 for none; ``tail`` -1 for all."""

    tty: bool = False  # raw bytes, no frames
    stdout: bool = True
    stderr: bool = True
    timestamps: bool = False
    details: bool = False
    tail: int = -1
    since: int = 0
    until: int = 0
    attributes: dict[str, str] = field(default_factory=dict)  # what details shows

    @property
    def prefix(self) -> bytes:
        """Return what stands before each line, after its time."""
        if not self.details:
            return b""
        pairs = sorted(self.attributes.items())
        return ",".join(f"{quote_plus(key)}={quote_plus(value)}" for key, value in pairs).encode() + b" "


def selection_of(job: ContainerLogs, stream: LogStream) -> Selection:
    return Selection(
        tty=stream.tty,
        stdout=job.stdout,
        stderr=job.stderr,
        timestamps=job.timestamps,
        details=job.details,
        tail=job.tail,
        since=job.since,
        until=job.until,
        attributes=stream.attributes,
    )
