"""Presence: whether there is a stack to speak to, seen at once. ZeroMQ waits in silence for one that never comes."""

from __future__ import annotations

import socket
from pathlib import Path

from shared.protocol import Unavailable

__all__ = ["require_stack"]

SOCKETS = ("engine.sock", "circus.sock", "reader.sock")  # one that listens is enough: the others may be coming back


def require_stack(run: Path) -> None:
    """Raise Unavailable if nobody listens in a run directory, or not to us."""
    for name in SOCKETS:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.setblocking(False)
                probe.connect(str(run / name))
                return
        except BlockingIOError:  # there, and busy
            return
        except PermissionError:
            raise Unavailable(f"permission denied at {run / name}: only root may speak to a stack") from None
        except OSError:
            continue
    raise Unavailable(f"no stack is up in {run} (dockyard up starts one)")
