"""The docker command at a terminal, as a person sits there."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from typing import Any

__all__ = ["Terminal"]


class Terminal:
    """Runs ``docker ARGS`` with a terminal of ``size`` (rows, columns); used as a context."""

    def __init__(self, stack: Any, *args: str, size: tuple[int, int] = (24, 80)) -> None:
        self._primary, secondary = pty.openpty()
        self.seen = b""
        self.resize(size)
        self.process = subprocess.Popen(
            ["docker", *args], env=stack.environ, stdin=secondary, stdout=secondary, stderr=secondary,
            start_new_session=True,
        )  # fmt: skip
        os.close(secondary)

    def resize(self, size: tuple[int, int]) -> None:
        fcntl.ioctl(self._primary, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))

    def type(self, text: bytes) -> None:
        os.write(self._primary, text)

    def read_until(self, text: bytes, timeout: float = 20.0) -> None:
        deadline = time.monotonic() + timeout
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self._primary], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self._primary, 4096)
                except OSError:  # nobody has the other side open any more
                    assert text in self.seen, self.seen

    def wait(self, timeout: float = 20.0) -> int:
        return self.process.wait(timeout)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._primary)
