"""Seccomp filters compiled once: libseccomp takes 15 ms over the default profile, a third of a whole start.

crun takes the compiled filter from an annotation and does not compile again. libseccomp is there because crun needs it.
"""

from __future__ import annotations

import base64
import ctypes
import functools
import json
import logging
import os
from typing import Any

__all__ = ["ANNOTATION", "compile_filter"]

ANNOTATION = "run.oci.seccomp_bpf_data"
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
ERRNO, TRACE = 0x00050000, 0x7FF00000
OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")  # numbered from 1 (seccomp.h, enum scmp_compare)
# the kernel runs a new filter for each system call there is, to know which need no more running: a tree takes it a
# tenth of what a chain does, at each start, exec and probe
OPTIMIZE, BINARY_TREE = 8, 2  # seccomp.h, SCMP_FLTATR_CTL_OPTIMIZE
EPERM = 1
NO_SUCH_SYSCALL = -1
ARCH_EXISTS = -17  # EEXIST: the native one is there from the start
log = logging.getLogger("dockyard.execdriver")


class Comparison(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def compile_filter(profile: dict[str, Any]) -> str | None:
    """Return OCI ``linux.seccomp`` as base64 of BPF, or None if it must be left to the runtime (it then compiles)."""
    return _compile(json.dumps(profile, sort_keys=True))


@functools.lru_cache(maxsize=64)
def _compile(text: str) -> str | None:
    try:
        return base64.b64encode(_export(json.loads(text))).decode()
    except (OSError, KeyError, ValueError) as error:
        log.warning("seccomp filter left to the runtime error=%s", error)
        return None


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    library.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Comparison),
    ]  # fmt: skip
    library.seccomp_attr_set.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    return library


def _export(profile: dict[str, Any]) -> bytes:
    library = _library()
    context = library.seccomp_init(_action(profile["defaultAction"], profile.get("defaultErrnoRet")))
    if not context:
        raise OSError("seccomp_init failed")
    try:
        _check(library.seccomp_attr_set(context, OPTIMIZE, BINARY_TREE), "optimize")
        for name in profile.get("architectures") or []:
            token = library.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
            _check(library.seccomp_arch_add(context, token), f"architecture {name}", allowed=ARCH_EXISTS)
        for rule in profile.get("syscalls") or []:
            _add_rule(library, context, rule)
        with os.fdopen(os.memfd_create("seccomp", os.MFD_CLOEXEC), "rb") as file:
            _check(library.seccomp_export_bpf(context, file.fileno()), "export")
            file.seek(0)
            return file.read()
    finally:
        library.seccomp_release(context)


def _add_rule(library: ctypes.CDLL, context: int, rule: dict[str, Any]) -> None:
    action = _action(rule["action"], rule.get("errnoRet"))
    comparisons = [
        Comparison(given["index"], _operator(given["op"]), given["value"], given.get("valueTwo", 0))
        for given in rule.get("args") or []
    ]
    array = (Comparison * len(comparisons))(*comparisons)
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number != NO_SUCH_SYSCALL:  # one that this libseccomp does not know is not allowed, as crun has it
            _check(library.seccomp_rule_add_array(context, action, number, len(comparisons), array), f"rule {name}")


def _operator(name: str) -> int:
    return OPERATORS.index(name.removeprefix("SCMP_CMP_")) + 1


def _action(name: str, errno: int | None) -> int:
    if name == "SCMP_ACT_ERRNO":
        return ERRNO | (EPERM if errno is None else errno)
    if name == "SCMP_ACT_TRACE":
        return TRACE | (EPERM if errno is None else errno)
    return ACTIONS[name]


def _check(result: int, what: str, allowed: int = 0) -> None:
    if result not in (0, allowed):
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
