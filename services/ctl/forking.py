"""Forking: how a fork server (`services.forkserver`) is begun, with nothing imported that would hold that up.

It loads the code of all programs while the arbiter loads its own: two processors work side by side.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from shared.runtime.parent import ARBITER

__all__ = ["LEGACY", "begin", "environ_of_children", "find_ini"]

LEGACY = "ARBITER_LEGACY"  # what an arbiter that executes itself anew leaves to the next
STRIPPED = (
    LEGACY, "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
)  # fmt: skip
CONTROL = 3  # its descriptor


def find_ini() -> Path:
    """Return circus.ini: beside the source tree, or in the installed package."""
    here = Path(__file__)
    candidates = (here.parents[2] / "circus.ini", here.with_name("circus.ini"))
    return next((path for path in candidates if path.exists()), candidates[0])


def environ_of_children(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what processes of the stack find in their environment, made of ours: what only we are told is left out."""
    kept = {name: value for name, value in environ.items() if name not in STRIPPED}
    own = {
        ARBITER: str(os.getpid()),
        "PYTHONSAFEPATH": "1",  # no code from the directory that we happen to be started in
        "PATH": f"{Path(sys.executable).parent}:{kept.get('PATH', '')}",
    }
    return {"MALLOC_ARENA_MAX": "2", **kept, **own}  # not eight for each core: one lock holds all our threads anyway


def begin(ini: Path) -> tuple[int, socket.socket]:
    """Start one that loads what ``ini`` runs; returns its pid and the socket that is told what is wanted.

    To be called in our main thread: the kernel ends it, and what it clones, with the thread. Errors: OSError.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words = ["python", "-m", "services.forkserver", str(CONTROL), str(ini)]
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, theirs.fileno(), CONTROL),
    ]
    with theirs:
        try:
            pid = os.posix_spawn(
                sys.executable, words, environ_of_children(os.environ), file_actions=actions, setsid=True
            )
        except OSError:
            ours.close()
            raise
    return pid, ours
