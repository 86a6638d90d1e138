"""Appearance: what proc(5) shows of a process that has executed nothing, /proc/PID/cmdline and environ."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["appear"]

PR_SET_MM, PR_SET_MM_MAP = 35, 14
NO_FILE = 0xFFFFFFFF
# of proc(5) /proc/PID/stat, counted from its third field
FIELDS = {
    "start_code": 23, "end_code": 24, "start_stack": 25, "start_data": 42, "end_data": 43, "start_brk": 44,
}  # fmt: skip
ADDRESSES = (
    "start_code", "end_code", "start_data", "end_data", "start_brk", "brk", "start_stack",
    "arg_start", "arg_end", "env_start", "env_end", "auxv",
)  # fmt: skip

_libc = ctypes.PyDLL(None)
_libc.sbrk.restype = ctypes.c_uint64
_shown: list[mmap.mmap] = []  # what the kernel reads when somebody asks


class _Map(ctypes.Structure):
    """``struct prctl_mm_map`` of linux/prctl.h."""

    _fields_ = [
        *((name, ctypes.c_uint64) for name in ADDRESSES),
        ("auxv_size", ctypes.c_uint32), ("exe_fd", ctypes.c_uint32),
    ]  # fmt: skip


def appear(words: Iterable[str], environ: Mapping[str, str]) -> bool:
    """Show these words and variables; returns whether the kernel agrees (prctl(2), PR_SET_MM_MAP)."""
    arguments = _joined(words)
    variables = _joined(f"{name}={value}" for name, value in environ.items())
    size = len(arguments) + len(variables)
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # others are not shown
    memory.write(arguments + variables)
    _shown.append(memory)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    middle = begin + len(arguments)
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    wanted = _Map(
        **{name: int(stat[index]) for name, index in FIELDS.items()},
        arg_start=begin, arg_end=middle, env_start=middle, env_end=middle + len(variables),
        exe_fd=NO_FILE,
    )  # fmt: skip
    size, address = ctypes.sizeof(wanted), ctypes.byref(wanted)
    while True:
        wanted.brk = _libc.sbrk(0)  # malloc may move it
        refused = _libc.prctl(PR_SET_MM, PR_SET_MM_MAP, address, size, 0)
        if refused or wanted.brk == _libc.sbrk(0):
            return not refused


def _joined(words: Iterable[str]) -> bytes:
    return b"".join(word.encode(errors="surrogateescape") + b"\0" for word in words)
