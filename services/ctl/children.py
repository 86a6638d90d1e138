"""Children: circus's processes, which the fork server begins where it can."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import psutil
from circus.process import Process

from services.ctl.forks import ForkServer
from shared.runtime.birth import module_of

__all__ = ["ChildProcess", "ForkedChild"]

STANDARD = 2  # the last of the standard streams' descriptors


class ForkedChild(psutil.Process):
    """What circus knows a process by: a `psutil.Popen`, as far as it uses one, of a child that we did not start."""

    stdout = stderr = None
    returncode: int | None = None

    def poll(self) -> int | None:
        """Return its exit status, or minus the signal that ended it; None while it runs; 0 if another took it."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self.returncode = 0
            else:
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


class ChildProcess(Process):
    def spawn(self) -> None:
        server: ForkServer | None = getattr(self.watcher, "fork_server", None)
        self.started = time.time()
        if server is None or not self._is_plain() or (child := self._fork(server)) is None:
            super().spawn()
        else:
            self._worker = child

    def _is_plain(self) -> bool:
        """Whether nothing but command, environment, directory and sockets is asked for: what circus.ini has of ours."""
        special = (self.shell, self.executable, self.uid, self.gid, self.rlimits, self.pipe_stdout, self.pipe_stderr)
        return not any(special) and self._get_stdin_socket_fd() is None

    def _fork(self, server: ForkServer) -> ForkedChild | None:
        words = self.format_args(sockets_fds=self._get_sockets_fds())
        if module_of(words) is None:
            return None
        null = os.open(os.devnull, os.O_RDWR)
        try:
            closed = (self.close_child_stdin, self.close_child_stdout, self.close_child_stderr)
            numbers = {stream: null if close else stream for stream, close in enumerate(closed)}
            if self.use_fds:
                numbers |= {descriptor: descriptor for descriptor in inheritable()}
            pid = server.fork(words, dict(self.env), self.working_dir, numbers)
        finally:
            os.close(null)
        with contextlib.suppress(psutil.NoSuchProcess):
            return None if pid is None else ForkedChild(pid)
        return None


def inheritable() -> list[int]:
    """Return the descriptors of this process that one executed by it would have, the standard streams aside."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        descriptor = int(entry.name)
        with contextlib.suppress(OSError):  # of the listing itself
            if descriptor > STANDARD and os.get_inheritable(descriptor):
                found.append(descriptor)
    return found
