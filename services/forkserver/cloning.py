"""Cloning: fork(2), but the new process is a child of our parent's, not ours.

glibc has no function for it. Its own `fork` is this call of clone(2) without CLONE_PARENT, in a process that has one
thread; what else it does is for further threads, and for handlers of pthread_atfork(3), which no library here needs
(OpenSSL's generator goes by the pid since 3.0). Python does before and after what `os.fork` does.
"""

from __future__ import annotations

import ctypes
import os

__all__ = ["clone"]

SYS_CLONE3 = 435  # on all architectures
CLONE_PARENT, CLONE_CHILD_CLEARTID, CLONE_CHILD_SETTID = 0x8000, 0x200000, 0x1000000
PR_GET_TID_ADDRESS = 40

_libc = ctypes.PyDLL(None, use_errno=True)  # holds the interpreter's lock meanwhile, as `os.fork` does
_libc.syscall.restype = ctypes.c_long


class _CloneArgs(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in ("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls")
    ]


def clone() -> int:
    """Return 0 in the new process, its pid in this one. Errors: OSError (also where the kernel has no such call)."""
    arguments = _CloneArgs(
        flags=CLONE_PARENT | CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID, child_tid=_tid_address()
    )  # its end is told by the signal that ours would be told by
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(_libc.syscall(SYS_CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments)))
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise _error("clone3")
    return pid


def _tid_address() -> int:
    """Return where glibc keeps the id of this thread: in the new process it is another."""
    address = ctypes.c_void_p()
    if _libc.prctl(PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) or address.value is None:
        raise _error("PR_GET_TID_ADDRESS")
    return address.value


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
