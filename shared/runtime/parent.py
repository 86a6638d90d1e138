"""Parent: who has started a process of a stack, and that nothing of the stack outlives it."""

from __future__ import annotations

import os

__all__ = ["ARBITER", "end_with_parent"]

ARBITER = "ARBITER_PID"  # the variable that tells a process of a stack who has started it
PR_SET_PDEATHSIG = 1


def end_with_parent(number: int) -> bool:
    """Have the kernel send us this signal when our parent ends; returns False if the arbiter has ended already."""
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    return os.environ.get(ARBITER, str(os.getppid())) == str(os.getppid())
