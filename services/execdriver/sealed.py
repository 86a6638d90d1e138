"""Sealed: a program of the host's that a container may come to see, as a copy that nobody can change.

A process that enters a container and executes a program there can be made to execute itself (`#!/proc/self/exe`). What
runs then is the container's, and may open /proc/self/exe: it must not be the host's file (CVE-2019-5736).
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["SealedProgram", "sealed_copy"]

ALL_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
ELF = b"\x7fELF"
TRIAL_TIMEOUT = 10.0  # seconds
log = logging.getLogger("dockyard.execdriver")


@contextmanager
def sealed_copy(program: Path) -> Iterator[int]:
    """Yield the descriptor of a copy in memory (memfd_create(2)), to be executed by its path. Errors: OSError."""
    copy = _copy(program)
    try:
        yield copy
    finally:
        os.close(copy)


def _copy(program: Path) -> int:
    with program.open("rb") as source:
        copy = os.memfd_create(program.name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            left, offset = os.fstat(source.fileno()).st_size, 0
            while sent := os.sendfile(copy, source.fileno(), offset, left - offset):
                offset += sent
            fcntl.fcntl(copy, fcntl.F_ADD_SEALS, ALL_SEALS)
        except BaseException:
            os.close(copy)
            raise
    return copy


class SealedProgram:
    """A program that is run again and again, and would make a protected copy of itself each time, as crun and runc do.

    That takes crun half of the time in which it begins; what is a sealed copy already goes on at once. Copies live as
    long as this process: a monitor may be about to run any of them.
    """

    def __init__(self, program: str) -> None:
        self._program = Path(program)
        self._lock = threading.Lock()
        self._copied: tuple[int, int, int] | None = None  # what the program was then
        self._path = program

    @property
    def path(self) -> str:
        """Return what to execute: a copy of the program as it is now. Errors: OSError (it is gone)."""
        found = self._program.stat()
        identity = (found.st_ino, found.st_size, found.st_mtime_ns)
        with self._lock:
            if identity != self._copied:
                self._copied, self._path = identity, self._sealed()
            return self._path

    def _sealed(self) -> str:
        """Copy the program. A script, which may ask for its own name, and what cannot be run so, stay as they are."""
        with self._program.open("rb") as file:
            if file.read(len(ELF)) != ELF:
                return str(self._program)
        try:
            copy = _copy(self._program)
        except OSError as error:
            log.info("no sealed copy program=%s error=%s", self._program, error)
            return str(self._program)
        path = f"/proc/{os.getpid()}/fd/{copy}"
        try:
            subprocess.run([path, "--version"], capture_output=True, timeout=TRIAL_TIMEOUT, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            log.info("not run from a sealed copy program=%s error=%s", self._program, error)
            os.close(copy)
            return str(self._program)
        return path
