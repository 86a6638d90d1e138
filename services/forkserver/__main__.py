"""The fork server: ``python -m services.forkserver DESCRIPTOR CIRCUS.INI``, as the arbiter starts it."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from pathlib import Path

from services.forkserver.becoming import FIRST, become, report, run
from services.forkserver.programs import listed
from services.forkserver.server import Born, serve
from shared.runtime.parent import end_with_parent


def main() -> Born | None:
    descriptor = int(sys.argv[1])
    if not end_with_parent(signal.SIGKILL):
        return None
    os.closerange(FIRST, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    gc.disable()
    control = socket.socket(fileno=descriptor)
    try:
        born = serve(control, listed(Path(sys.argv[2])))
    except ConnectionError:  # the arbiter has gone
        return None
    control.detach()
    return born


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m services.forkserver DESCRIPTOR CIRCUS.INI (the arbiter does)")
    born = main()
    if born is None:
        os._exit(0)
    report(born[1])
    become(born[0], born[2])
    run(born[0].words, *born[3])
