"""Sealed: a program of the host's that a container may come to see, as a copy that nobody can change.

A process that enters a container and executes a program there can be made to execute itself (`#!/proc/self/exe`). What
runs then is the container's, and may open /proc/self/exe: it must not be the host's file (CVE-2019-5736).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["sealed_copy"]

ALL_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@contextmanager
def sealed_copy(program: Path) -> Iterator[int]:
    """Yield the descriptor of a copy in memory (memfd_create(2)), to be executed by its path. Errors: OSError."""
    with program.open("rb") as source:
        copy = os.memfd_create(program.name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            left, offset = os.fstat(source.fileno()).st_size, 0
            while sent := os.sendfile(copy, source.fileno(), offset, left - offset):
                offset += sent
            fcntl.fcntl(copy, fcntl.F_ADD_SEALS, ALL_SEALS)
            yield copy
        finally:
            os.close(copy)
