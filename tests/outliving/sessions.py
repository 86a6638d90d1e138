"""Attached sessions: each answers, whatever happens to the stack, while the API worker that carries it lives."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time

from tests.outliving.host import Host

__all__ = ["KINDS", "Session"]

ECHO = "while read x; do echo got $x; done; exit 3"
KINDS = ("run", "terminal", "attach", "exec", "exec-terminal")
ANSWER_TIME = 10.0  # seconds


class Session:
    """A docker command that a person types into. All but ``run`` and ``terminal`` are in a container made for them."""

    def __init__(self, host: Host, kind: str, number: int) -> None:
        self.host, self.kind, self.name = host, kind, f"session-{kind}{number}"
        self.is_terminal = "terminal" in kind
        self.waits = True  # `docker run` has a second connection, for the exit code, perhaps to another API worker
        self._lines = 0
        if kind in ("run", "terminal"):
            flags = ["-it"] if self.is_terminal else ["-i"]
            command = ["run", *flags, "--name", self.name, "busybox", "sh", "-c", ECHO]
        else:
            host.docker("run", "-d", "-i", "--name", self.name, "busybox", "sh", "-c", ECHO)
            flags = ["-it"] if self.is_terminal else ["-i"]
            command = ["attach", self.name] if kind == "attach" else ["exec", *flags, self.name, "sh", "-c", ECHO]
        self._open(command)

    def _open(self, command: list[str]) -> None:
        if self.is_terminal:
            self._input, theirs = pty.openpty()
            self._output = os.dup(self._input)
            stdin = stdout = theirs
        else:
            stdin, self._input = os.pipe()
            self._output, stdout = os.pipe()
        self.process = subprocess.Popen(
            ["docker", *command], env=self.host.environ, stdin=stdin, stdout=stdout, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        for descriptor in {stdin, stdout}:
            os.close(descriptor)

    def check(self) -> None:
        """Say something, and wait for the answer."""
        self._lines += 1
        assert self.process.poll() is None, f"{self.name} has ended: {self.process.returncode}"
        os.write(self._input, f"line{self._lines}\n".encode())
        self._await(f"got line{self._lines}".encode())

    def _await(self, wanted: bytes) -> None:
        heard, deadline = b"", time.monotonic() + ANSWER_TIME
        while wanted not in heard:
            ready, _, _ = select.select([self._output], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{self.name} does not answer: {heard!r}"
            try:
                data = os.read(self._output, 4096)
            except OSError:  # a terminal whose other side is closed
                data = b""
            assert data, f"{self.name} is at its end: {heard!r}"
            heard += data
            self.waits = self.waits and b"error waiting for container" not in heard

    @property
    def execs(self) -> int:
        return int(self.kind.startswith("exec"))

    def end(self, *, broken: bool = False) -> None:
        """End it as its user would; ``broken``: its API worker has gone. Its container is removed."""
        if self.kind == "attach" or broken:  # its container reads on: the one who looked leaves
            self.process.kill()
        elif self.is_terminal and not broken:
            os.write(self._input, b"\x04")
        if not self.is_terminal:
            os.close(self._input)
        try:
            code = self.process.wait(20)
            assert broken or code == 3 or self.kind == "attach", f"{self.name} ended with {code}"
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"{self.name} does not end") from None
        finally:
            if self.is_terminal:
                os.close(self._input)
            os.close(self._output)
            self.host.docker("rm", "-f", self.name)

    def abandon(self) -> None:
        """Whatever is left of it at the end of a test that failed."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
