"""Birth: what the arbiter asks the fork server for, and who may be asked for.

One message on a SOCK_SEQPACKET socket, JSON, with descriptors (SCM_RIGHTS): first the one on which the new process
reports, then those that it has, under the numbers that the message gives. The report is its pid, in decimal, and a
line feed; a byte that comes back says that it is expected. Who gets none ends, and has done nothing.
"""

from __future__ import annotations

import json
import socket
from typing import NamedTuple

__all__ = ["ALL", "GO", "MOST", "Birth", "ask", "module_of", "take"]

GO = b"\n"
ALL = b"*"  # what the server says when it has loaded all that it loads ahead; before that, the name of each module
MOST = 250  # descriptors of one message; SCM_MAX_FD is 253
LONGEST = 1 << 20  # bytes
OURS = "services."


class Birth(NamedTuple):
    """``words``: ``python -m MODULE [ARGUMENT…]``; ``numbers``: what its descriptors are called, inheritable all."""

    words: list[str]
    environ: dict[str, str]
    directory: str
    numbers: list[int]


def module_of(words: list[str]) -> str | None:
    """Return which module of ours a command runs; None for all others: these are executed.

    Ours start no thread and open nothing when they are imported.
    """
    if words[:2] == ["python", "-m"] and len(words) > 2 and words[2].startswith(OURS):
        return words[2]
    return None


def ask(server: socket.socket, birth: Birth, report: int, descriptors: list[int]) -> None:
    """Errors: OSError (it is gone, or does not take it)."""
    socket.send_fds(server, [json.dumps(birth).encode()], [report, *descriptors])


def take(server: socket.socket) -> tuple[Birth, int, list[int]] | None:
    """Wait for a message; returns it with its descriptors, close-on-exec; None if nobody asks any more."""
    message, descriptors, _, _ = socket.recv_fds(server, LONGEST, MOST + 1, socket.MSG_CMSG_CLOEXEC)
    if not message:
        return None
    return Birth(*json.loads(message)), descriptors[0], descriptors[1:]
