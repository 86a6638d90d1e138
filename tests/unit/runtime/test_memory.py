from __future__ import annotations

import subprocess
import sys

from shared.runtime.memory import STEP, GiveBack

MB = 1 << 20
FREED = """
import ctypes
from shared.runtime.memory import give_back, resident
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
blocks = [libc.malloc(1000) for _ in range(60_000)]
for block in blocks:
    ctypes.memset(block, 1, 1000)
kept = libc.malloc(100_000)  # above them all
ctypes.memset(kept, 1, 100_000)
for block in blocks:
    libc.free(block)
before = resident()
give_back()
print(before - resident())
"""


class Process:
    """``trimmed``: how often; each time it shrinks to ``least``."""

    def __init__(self) -> None:
        self.size, self.least, self.trimmed = 20 * MB, 20 * MB, 0
        self.memory = GiveBack(lambda: self.size, self.trim)

    def trim(self) -> None:
        self.trimmed += 1
        self.size = self.least

    def look(self, size: int) -> int:
        self.size = size
        self.memory.look()
        return self.trimmed


def test_who_does_not_grow_is_left_alone() -> None:
    process = Process()
    assert [process.look(20 * MB), process.look(21 * MB), process.look(20 * MB)] == [0, 0, 0]


def test_who_has_grown_gives_back_when_it_has_stopped() -> None:
    process = Process()
    assert [process.look(size * MB) for size in (30, 60, 90, 90)] == [0, 0, 0, 1]
    assert process.size == 20 * MB
    assert process.look(20 * MB) == 1


def test_what_is_in_use_is_not_asked_for_again_and_again() -> None:
    process = Process()
    process.least = 50 * MB
    assert [process.look(60 * MB), process.look(60 * MB), process.look(50 * MB), process.look(50 * MB)] == [0, 1, 1, 1]
    process.look(30 * MB)  # by itself
    assert [process.look(30 * MB + 2 * STEP), process.look(30 * MB + 2 * STEP)] == [1, 2]


def test_free_memory_below_something_in_use_goes_back() -> None:
    out = subprocess.run([sys.executable, "-c", FREED], check=True, capture_output=True, text=True, timeout=60).stdout
    assert int(out) > 40 * MB
