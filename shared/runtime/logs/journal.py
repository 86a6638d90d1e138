"""Journal: a container's output in the system's journal, as its monitor wrote it, read through journalctl(1).

Fields of an entry (systemd.journal-fields(7), conmon): MESSAGE, PRIORITY 6 stdout or 3 stderr, CONTAINER_ID_FULL,
CONTAINER_PARTIAL_MESSAGE=true for a part of a line, __REALTIME_TIMESTAMP in microseconds, __CURSOR.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Iterator

from shared.protocol import DockyardError
from shared.runtime.logs.entries import Renderer, moment
from shared.runtime.logs.selection import Selection

__all__ = ["read_journal"]

CHUNK = 1 << 16
STDERR_PRIORITY = "3"
LISTEN = 0.25  # seconds between two questions whether it has ended
Wait = Callable[[float], bool]


def read_journal(
    container: str, selection: Selection, *, follow: bool, ended: Callable[[], bool], wait: Wait
) -> Iterator[bytes]:
    """As `shared.runtime.logs.reader.read_log`. Errors: DockyardError (there is no journalctl)."""
    renderer = Renderer(selection)
    for block in _blocks(container, selection, follow, lambda: ended() or wait(0)):
        if piece := renderer.feed(block):
            yield piece
        if renderer.done:
            return
    if ended() and (piece := renderer.finish()):
        yield piece


def _blocks(container: str, selection: Selection, follow: bool, over: Callable[[], bool]) -> Iterator[bytes]:
    """Yield what there is; with ``follow`` what comes until it is ``over``, and what had come by then."""
    command = ["journalctl", "--quiet", "--no-pager", "--all", "--output=json", f"CONTAINER_ID_FULL={container}"]
    first = [f"--lines={selection.tail if selection.tail >= 0 else 'all'}"]
    if selection.since:
        first.append(f"--since=@{selection.since // 1_000_000_000}")
    cursor = _Cursor()
    if not follow:
        yield from _entries([*command, *first], cursor)
        return

    def stop() -> bool:
        return over() or 0 < selection.until < time.time_ns()

    yield from _entries([*command, *first, "--follow"], cursor, stop)
    rest = [f"--after-cursor={cursor.text}"] if cursor.text else first
    yield from _entries([*command, *rest], cursor)


class _Cursor:
    """Where in the journal the reading has come to."""

    text = ""


def _entries(command: list[str], cursor: _Cursor, stop: Callable[[], bool] | None = None) -> Iterator[bytes]:
    """Run journalctl, and yield what it says as lines of a log; with ``stop``, until that is true."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment()
        )
    except OSError as error:
        raise DockyardError(f"the journal cannot be read: {error}") from error
    assert process.stdout is not None
    rest, poller = b"", select.poll()
    poller.register(process.stdout, select.POLLIN)
    try:
        while stop is None or not stop():
            if not poller.poll(LISTEN * 1000):
                continue
            chunk = os.read(process.stdout.fileno(), CHUNK)
            if not chunk:
                return
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            yield b"".join(_lines(line, cursor) for line in lines)
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "SYSTEMD_PAGER": ""}


def _lines(entry: bytes, cursor: _Cursor) -> bytes:
    """Make an entry in journalctl's JSON a line of a log; conmon may put what comes together into one: lines, then."""
    fields = json.loads(entry)
    cursor.text = fields.get("__CURSOR", cursor.text)
    message = fields.get("MESSAGE") or ""
    data = bytes(message) if isinstance(message, list) else message.encode("utf-8", "surrogateescape")
    stream = b"stderr" if fields.get("PRIORITY") == STDERR_PRIORITY else b"stdout"
    flag = b"P" if fields.get("CONTAINER_PARTIAL_MESSAGE") == "true" else b"F"
    when = moment(int(fields["__REALTIME_TIMESTAMP"]) * 1000)
    *whole, last = data.removesuffix(b"\n").split(b"\n")
    lines = [*((b"F", line) for line in whole), (flag, last)]
    return b"".join(b"%b %b %b %b\n" % (when, stream, mark, line) for mark, line in lines)
