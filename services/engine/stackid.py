"""StackId: which stack an engine belongs to, so that it can tell a stack's start from one of its own."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

__all__ = ["StackId"]

STARTTIME = 19  # word of proc_pid_stat(5), counted from the state


class StackId(msgspec.Struct, frozen=True):
    """``boot`` of the host; ``arbiter``: the engine's parent, pid and start; ``ended``: that stack was stopped."""

    boot: str
    arbiter: str
    ended: bool = False

    @classmethod
    def present(cls) -> StackId:
        parent = os.getppid()
        try:
            started = Path(f"/proc/{parent}/stat").read_text().rpartition(") ")[2].split()[STARTTIME]
        except OSError:
            started = "0"
        return cls(boot=Path("/proc/sys/kernel/random/boot_id").read_text().strip(), arbiter=f"{parent}:{started}")

    def is_new_after(self, before: StackId | None) -> bool:
        """Say whether this stack was started by somebody: not a new arbiter in the place of one that crashed."""
        if before is None or before.boot != self.boot:
            return True
        return before.arbiter != self.arbiter and before.ended
