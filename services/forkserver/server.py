"""Server: one thread, no ZeroMQ, no lock: nothing that a fork would break."""

from __future__ import annotations

import gc
import os
import select
import socket
from collections import deque
from collections.abc import Iterable

from services.forkserver.cloning import clone
from services.forkserver.programs import Program, load
from shared.runtime.birth import ALL, Birth, take
from shared.runtime.memory import give_back

__all__ = ["Born", "serve"]

AT_ONCE = 0.005  # seconds in which who has asked for one program asks for the next
Born = tuple[Birth, int, list[int], Program]


def serve(control: socket.socket, modules: Iterable[str]) -> Born | None:
    """Load programs, and clone a process whenever one is asked for; returns in each of these what it is to be.

    Returns None when nobody asks any more. Each program that is loaded is told, by its name, and the end of it.
    """
    waiting, loaded, asked = deque(modules), dict[str, Program | None](), False
    if not waiting:
        control.send(ALL)

    def have(module: str) -> Program | None:
        if module not in loaded:
            loaded[module] = load(module)
            control.send(module.encode())
        return loaded[module]

    while True:
        while waiting and not _readable(control, AT_ONCE if asked else 0.0):
            have(waiting.popleft())
            if not waiting:
                give_back()
                control.send(ALL)
        taken = take(control)
        if taken is None:
            return None
        asked = True
        birth, report, descriptors = taken
        program = have(birth.words[2])
        gc.freeze()  # a collection in a child leaves alone what is here: it would write to all of it
        if program is not None and _is_new(report):
            return (birth, report, descriptors, program)
        for descriptor in (report, *descriptors):
            os.close(descriptor)


def _is_new(report: int) -> bool:
    try:
        return clone() == 0
    except OSError:
        return False  # the report is closed without a word: it is executed, then


def _readable(control: socket.socket, timeout: float) -> bool:
    poller = select.poll()  # select(2) knows no descriptors beyond 1023
    poller.register(control, select.POLLIN)
    return bool(poller.poll(timeout * 1000))
