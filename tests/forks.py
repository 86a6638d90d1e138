"""Whether a process has executed a program of its own since it was forked."""

from __future__ import annotations

from pathlib import Path

__all__ = ["is_fork_of"]


def is_fork_of(pid: int, other: int) -> bool:
    """Whether both have one image: the kernel puts its own page elsewhere, by chance, at each execution."""
    return _vdso(pid) == _vdso(other)


def _vdso(pid: int) -> str:
    return next(line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if line.endswith("[vdso]"))
