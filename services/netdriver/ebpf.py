"""eBPF: small programs for tc(8), put together here and loaded by bpf(2). No compiler, no library.

A jump names a label; a label is a string among the instructions.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Sequence

__all__ = ["Instruction", "call", "jump", "leave", "load", "load_field", "load_packet", "move", "only_bits"]

Instruction = tuple[int, int, int, str, int]  # code, destination, source, label to jump to, immediate
INSTRUCTION = struct.Struct("=BBhi")
BPF_PROG_LOAD, BPF_PROG_TYPE_SCHED_CLS = 5, 3
SYSCALL = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), -1)
SIZES = {1: 0x30, 2: 0x28, 4: 0x20}  # LD_ABS of so many bytes
CONTEXT = 6  # the register that has the packet

_libc = ctypes.CDLL(None, use_errno=True)


def move(register: int, value: int) -> Instruction:
    return 0xB7, register, 0, "", value


def load_field(register: int, offset: int) -> Instruction:
    """Load a field of struct __sk_buff (bpf.h)."""
    return 0x61, register, CONTEXT, str(offset), 0


def load_packet(offset: int, size: int) -> Instruction:
    """Load bytes of the packet into register 0, as a number; one too short ends the program with 0."""
    return SIZES[size], 0, 0, "", offset


def only_bits(register: int, mask: int) -> Instruction:
    return 0x57, register, 0, "", mask


def jump(label: str, register: int, value: int, *, if_equal: bool = True) -> Instruction:
    """Compare the lower 32 bits."""
    return 0x16 if if_equal else 0x56, register, 0, label, value


def call(function: int) -> Instruction:
    return 0x85, 0, 0, "", function


def leave() -> Instruction:
    """End with what is in register 0."""
    return 0x95, 0, 0, "", 0


def assemble(program: Sequence[Instruction | str]) -> bytes:
    """Return the instructions as the kernel has them, after one that keeps the packet in register 6."""
    places: dict[str, int] = {}
    instructions: list[Instruction] = [(0xBF, CONTEXT, 1, "", 0)]
    for one in program:
        if isinstance(one, str):
            places[one] = len(instructions)
        else:
            instructions.append(one)
    found = b""
    for number, (code, destination, source, where, value) in enumerate(instructions):
        offset = (int(where) if where.isdigit() else places[where] - number - 1) if where else 0
        signed = value - (1 << 32) if value >= 1 << 31 else value
        found += INSTRUCTION.pack(code, destination | source << 4, offset, signed)
    return found


def load(program: Sequence[Instruction | str]) -> int:
    """Load a classifier; returns a descriptor of it, which the caller closes. Raises OSError."""
    code = assemble(program)
    instructions, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"Dual BSD/GPL")
    attributes = struct.pack(
        "=IIQQIIQ",
        BPF_PROG_TYPE_SCHED_CLS,
        len(code) // INSTRUCTION.size,
        ctypes.addressof(instructions),
        ctypes.addressof(licence),
        0,
        0,
        0,
    )
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"))
    descriptor = int(_libc.syscall(SYSCALL, BPF_PROG_LOAD, buffer, len(buffer) - 1))
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"bpf: {os.strerror(number)}")
    os.set_inheritable(descriptor, False)
    return descriptor
