"""Becoming: a process that was cloned off the fork server becomes what it would be, had it been executed."""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import socket
import sys
import tempfile
import time
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType

from services.forkserver.appearance import appear
from shared.runtime.birth import GO, Birth

__all__ = ["become", "report", "run"]

FIRST = 3  # descriptor after the standard streams


def report(descriptor: int) -> None:
    """Tell the arbiter who we are, and end if it does not expect us."""
    with socket.socket(fileno=descriptor) as connection:
        try:
            connection.sendall(b"%d\n" % os.getpid())
            if connection.recv(len(GO)) == GO:
                return
        except OSError:
            pass
        os._exit(1)


def become(birth: Birth, descriptors: list[int]) -> None:
    """Have what the message says, and nothing of the server's. Errors: OSError."""
    os.setsid()
    _place(descriptors, birth.numbers)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(birth.environ)
    time.tzset()
    tempfile.tempdir = None  # decided by the environment
    os.chdir(birth.directory)
    appear(birth.words, birth.environ)
    gc.enable()


def _place(descriptors: list[int], numbers: list[int]) -> None:
    """Have each descriptor under its number, and no other."""
    beyond = max([*numbers, *descriptors]) + 1
    aside = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, beyond) for descriptor in descriptors]
    for descriptor, number in zip(aside, numbers, strict=True):
        os.dup2(descriptor, number)
    free = 0
    for number in sorted(numbers):
        if number > free:  # os.closerange(0, 0) closes all there are
            os.closerange(free, number)
        free = number + 1
    os.closerange(free, os.sysconf("SC_OPEN_MAX"))


def run(words: list[str], spec: ModuleSpec, code: CodeType) -> None:
    """Run a module as ``python -m`` does; it ends the process by SystemExit, as ever."""
    sys.orig_argv[:] = words
    sys.argv[:] = [spec.origin or "-m", *words[3:]]
    module = ModuleType("__main__")
    module.__dict__.update(
        __file__=spec.origin, __cached__=spec.cached, __loader__=spec.loader, __package__=spec.parent, __spec__=spec
    )
    sys.modules["__main__"] = module
    exec(code, module.__dict__)
