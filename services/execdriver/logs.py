"""Logs: conmon's k8s-file log, read as Docker shows it.

A line of the file is ``TIME STREAM FLAG DATA``: RFC 3339 time with nanoseconds, stdout or stderr, F (a whole line) or
P (the line goes on in the next entry of that stream).
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from shared.protocol import RuntimeLogs

__all__ = ["Entry", "frame", "parse_line", "stream_logs"]

STREAMS = {b"stdout": 1, b"stderr": 2}
POLL_INTERVAL = 0.05  # seconds between two looks at a file that is followed


@dataclass(frozen=True)
class Entry:
    time: float  # seconds since the epoch
    nanoseconds: int
    stream: int  # 1 stdout, 2 stderr
    data: bytes  # with the newline, if the line is whole


def parse_line(line: bytes) -> Entry | None:
    """Parse one line (without its newline); None if it is not an entry (a torn last line)."""
    parts = line.split(b" ", 3)
    if len(parts) != 4 or parts[1] not in STREAMS or parts[2] not in (b"F", b"P"):
        return None
    try:
        moment = datetime.fromisoformat(parts[0][:26].decode() + parts[0][29:].decode())
        nanoseconds = int(parts[0][20:29])
    except (ValueError, UnicodeDecodeError):
        return None
    end = b"\n" if parts[2] == b"F" else b""
    return Entry(int(moment.timestamp()) + nanoseconds / 1e9, nanoseconds, STREAMS[parts[1]], parts[3] + end)


def frame(entry: Entry, job: RuntimeLogs) -> bytes:
    """Return an entry as Docker sends it: an 8-byte header (stream, length) unless there is a terminal."""
    data = entry.data
    if job.timestamps:
        whole = datetime.fromtimestamp(int(entry.time), UTC)
        data = f"{whole:%Y-%m-%dT%H:%M:%S}.{entry.nanoseconds:09d}Z ".encode() + data
    return data if job.tty else struct.pack(">BxxxL", entry.stream, len(data)) + data


def stream_logs(job: RuntimeLogs, connection: socket.socket, ended: Callable[[], bool]) -> None:
    """Send the entries asked for; with ``follow``, go on until ``ended`` and everything has been sent."""
    path = Path(job.path)
    while not path.exists():
        if not job.follow or ended() or _closed(connection):
            return
        time.sleep(POLL_INTERVAL)
    with path.open("rb") as file:
        if job.tail >= 0:
            file.seek(_tail_offset(file, job))
        rest = b""
        while True:
            over = not job.follow or ended()
            for line in _lines(file, rest):
                if not line.endswith(b"\n"):
                    rest = line
                    break
                rest = b""
                entry = parse_line(line[:-1])
                if entry is None or not _wanted(entry, job):
                    continue
                connection.sendall(frame(entry, job))
            if over or _past(job) or _closed(connection):
                return
            time.sleep(POLL_INTERVAL)


def _lines(file: BinaryIO, rest: bytes) -> Iterator[bytes]:
    for line in file:
        yield rest + line
        rest = b""


def _wanted(entry: Entry, job: RuntimeLogs) -> bool:
    return (
        (job.stdout if entry.stream == 1 else job.stderr)
        and entry.time >= job.since
        and (not job.until or entry.time <= job.until)
    )


def _past(job: RuntimeLogs) -> bool:
    return bool(job.until) and time.time() > job.until


def _closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False


def _tail_offset(file: BinaryIO, job: RuntimeLogs) -> int:
    """Return where the last ``tail`` wanted lines begin, looking from the end."""
    size = os.fstat(file.fileno()).st_size
    if size == 0:
        return 0
    found = 0
    with mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ) as data:
        end = data.rfind(b"\n") + 1
        if job.tail == 0:
            return end
        while end > 0:
            begin = data.rfind(b"\n", 0, end - 1) + 1
            entry = parse_line(data[begin : end - 1])
            if entry is not None and entry.data.endswith(b"\n") and _wanted(entry, job):
                found += 1
                if found > job.tail:
                    return end
            end = begin
    return 0
