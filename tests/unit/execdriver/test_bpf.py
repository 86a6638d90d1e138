"""The compiled filter decides as the profile says: the kernel's machine, as far as libseccomp uses it, run by hand."""

from __future__ import annotations

import base64
import ctypes
import platform
import struct

import pytest

from services.execdriver import bpf
from services.execdriver.capabilities import DEFAULT
from services.execdriver.seccomp import ALLOWED, seccomp_profile

LOAD, LOAD_MEMORY, STORE, JUMP, RETURN, AND = 0x20, 0x60, 0x02, 0x05, 0x06, 0x54
AUDIT_ARCH_X86_64, ALLOW, REFUSED = 0xC000003E, 0x7FFF0000, 0x00050001
CLONE_NEWUSER = 0x10000000

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86_64")


def decide(program: bytes, number: int, *args: int) -> int:
    """Run a filter on a system call (seccomp(2), struct seccomp_data)."""
    data = struct.pack("=IIQ6Q", number, AUDIT_ARCH_X86_64, 0, *args, *[0] * (6 - len(args)))
    steps = [struct.unpack_from("HBBI", program, offset) for offset in range(0, len(program), 8)]
    accumulator, memory, at = 0, [0] * 16, 0
    while True:
        code, if_true, if_false, k = steps[at]
        at += 1
        if code == RETURN:
            return int(k)
        if code == LOAD:
            accumulator = struct.unpack_from("I", data, k)[0]
        elif code == LOAD_MEMORY:
            accumulator = memory[k]
        elif code == STORE:
            memory[k] = accumulator
        elif code == AND:
            accumulator &= k
        elif code == JUMP:
            at += k
        else:
            holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k, 0x45: accumulator & k}
            at += if_true if holds[code] else if_false


def test_the_tree_decides_as_the_profile_says() -> None:
    profile = seccomp_profile("", [f"CAP_{name}" for name in DEFAULT], privileged=False)
    assert profile is not None
    compiled = bpf.compile_filter(profile)
    assert compiled is not None
    program = base64.b64decode(compiled)
    resolve = ctypes.CDLL("libseccomp.so.2").seccomp_syscall_resolve_name
    number = {name: resolve(name.encode()) for name in [*ALLOWED, "mount", "setns", "bpf", "clone", "personality"]}
    allowed = {number[name] for name in ALLOWED if number[name] >= 0}
    for candidate in allowed:
        assert decide(program, candidate) == ALLOW, candidate
    for name in ("mount", "setns", "bpf"):
        assert decide(program, number[name]) == REFUSED, name
    assert decide(program, 100_000) == REFUSED
    assert decide(program, number["clone"], 0) == ALLOW
    assert decide(program, number["clone"], CLONE_NEWUSER) == REFUSED
    assert decide(program, number["personality"], 8) == ALLOW
    assert decide(program, number["personality"], 0x0040000) == REFUSED
