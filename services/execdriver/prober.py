"""Prober: a small process that runs health probes, one fork each (docs/decisions/0005-health-probes.md).

It is a program of its own, with the standard library only, so that a fork of it is cheap and loads nothing once it is
inside a container. It speaks to the execdriver over a SOCK_SEQPACKET pair, its standard input:

| direction | packet                                                                                        |
|-----------|-----------------------------------------------------------------------------------------------|
| request   | JSON `Probe`, with a descriptor: a pidfd of the container's init                               |
| answer    | JSON: id, exit_code (-1: it was not run, or took too long), output, error, start, end (epoch s) |

It is executed from a sealed copy of the interpreter (`services.execdriver.sealed`), since a probe can be made to
execute /proc/self/exe, which then is open to the container.

When the socket closes, all probes are killed, and it ends.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any, NoReturn, TypedDict

__all__ = ["MAX_OUTPUT", "Probe"]

MAX_OUTPUT = 4096  # bytes of output that are kept
PACKET = 1 << 18  # bytes of a request or an answer, at most

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 22, 24, 38
SECCOMP_MODE_FILTER = 2
LINUX_CAPABILITY_VERSION_3 = 0x20080522

LAST_CAPABILITY = int(Path("/proc/sys/kernel/cap_last_cap").read_text())

libc = ctypes.CDLL(None, use_errno=True)


class Probe(TypedDict):
    id: str
    args: list[str]
    env: dict[str, str]
    cwd: str
    uid: int
    gid: int
    groups: list[int]
    capabilities: list[int]  # numbers; the bounding set
    no_new_privileges: bool
    rlimits: list[tuple[int, int, int]]  # resource, soft, hard
    oom_score_adj: int
    seccomp: str  # path of the compiled filter, "" for none
    cgroups: list[str]  # paths of cgroup.procs
    timeout: float  # seconds


class Running:
    """A probe under way."""

    def __init__(self, probe: Probe, pidfd_of_init: int) -> None:
        self.probe, self.start = probe, time.time()
        self.deadline = time.monotonic() + probe["timeout"]
        self.output, self.timed_out = b"", False
        self.reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.errors, errors = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self.pid = fork_into(pidfd_of_init)
            if self.pid == 0:
                become(probe, pidfd_of_init, writer, errors)
        finally:
            os.close(writer)
            os.close(errors)
        self.pidfd = os.pidfd_open(self.pid)

    def read(self) -> bool:
        """Take output that is there; False at its end."""
        try:
            while chunk := os.read(self.reader, 65536):
                self.output = (self.output + chunk)[: MAX_OUTPUT + 1]
            return False
        except BlockingIOError:
            return True

    def kill(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            os.kill(self.pid, signal.SIGKILL)  # it has no group of its own yet

    def finish(self) -> dict[str, Any]:
        """Reap the process that has ended, and say how."""
        _, status = os.waitpid(self.pid, 0)
        self.read()
        try:
            error = os.read(self.errors, 4096).decode(errors="replace")
        except BlockingIOError:
            error = ""
        for descriptor in (self.reader, self.errors, self.pidfd):
            os.close(descriptor)
        code = 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        return {
            "id": self.probe["id"],
            "exit_code": -1 if error or self.timed_out else code,
            "output": self.output.decode(errors="replace"),
            "error": "timeout" if self.timed_out else error,
            "start": self.start,
            "end": time.time(),
        }


def fork_into(pidfd: int) -> int:
    """Fork a child into another pid namespace; we stay in ours."""
    setns(pidfd, CLONE_NEWPID)
    try:
        pid = os.fork()
    except OSError:
        setns(OWN_PID_NAMESPACE, CLONE_NEWPID)
        raise
    if pid:
        setns(OWN_PID_NAMESPACE, CLONE_NEWPID)
    return pid


def setns(descriptor: int, flags: int) -> None:
    check(libc.setns(descriptor, flags), "setns")


def check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def become(probe: Probe, pidfd: int, writer: int, errors: int) -> NoReturn:
    """In the child: enter the container, take on its sandbox, run the command."""
    try:
        enter(probe, pidfd, writer)
        os.execvpe(probe["args"][0], probe["args"], probe["env"])
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        os.write(errors, ("not found" if missing else f"{error.strerror}").encode())
    except BaseException as error:
        os.write(errors, type(error).__name__.encode())
    os._exit(127)


def enter(probe: Probe, pidfd: int, writer: int) -> None:
    """The order matters: what needs the host's files first, what needs privileges before they are dropped."""
    os.setsid()
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # until exec, nobody inside may look at us
    for number, descriptor in enumerate((OWN_NULL, writer, writer)):
        os.dup2(descriptor, number)
    if probe["oom_score_adj"]:
        Path("/proc/self/oom_score_adj").write_text(str(probe["oom_score_adj"]))
    seccomp = Path(probe["seccomp"]).read_bytes() if probe["seccomp"] else b""
    cgroups = [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in probe["cgroups"]]
    setns(pidfd, CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET)
    for descriptor in cgroups:  # now, so that what we touched before is not charged to the container
        os.write(descriptor, b"0")
        os.close(descriptor)
    os.close(pidfd)
    os.chdir(probe["cwd"])
    os.umask(0o022)
    for kind, soft, hard in probe["rlimits"]:
        resource.setrlimit(kind, (soft, hard))
    for number in OWN_IGNORED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    drop_privileges(probe, seccomp)


def drop_privileges(probe: Probe, seccomp: bytes) -> None:
    """Without no-new-privileges, a filter can only be set before capabilities are dropped; with it, best at the end."""
    if seccomp and not probe["no_new_privileges"]:
        set_filter(seccomp)
    for number in set(range(LAST_CAPABILITY + 1)) - set(probe["capabilities"]):
        check(libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0), "capbset_drop")
    os.setgroups(probe["groups"])
    os.setresgid(probe["gid"], probe["gid"], probe["gid"])
    os.setresuid(probe["uid"], probe["uid"], probe["uid"])
    granted = sum(1 << number for number in probe["capabilities"]) if probe["uid"] == 0 else 0
    low, high = granted & 0xFFFFFFFF, granted >> 32
    header = struct.pack("=II", LINUX_CAPABILITY_VERSION_3, 0)
    check(libc.capset(header, struct.pack("=6I", low, low, 0, high, high, 0)), "capset")
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if probe["no_new_privileges"]:
        check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
        if seccomp:
            set_filter(seccomp)


def set_filter(program: bytes) -> None:
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))  # struct sock_fprog
    check(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0), "seccomp")


class Prober:
    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._poller = select.epoll()
        self._poller.register(requests, select.EPOLLIN)
        self._by_descriptor: dict[int, Running] = {}

    def serve(self) -> None:
        while True:
            for descriptor, _ in self._poller.poll(self._patience()):
                if descriptor != self._requests.fileno():
                    self._on_event(descriptor)
                elif not self._take():
                    return
            for running in set(self._by_descriptor.values()):
                if not running.timed_out and time.monotonic() >= running.deadline:
                    running.timed_out = True
                    running.kill()

    def _patience(self) -> float:
        deadlines = [running.deadline for running in self._by_descriptor.values() if not running.timed_out]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else -1

    def _take(self) -> bool:
        """Begin what is asked; False if nobody will ask any more."""
        data, descriptors, _, _ = socket.recv_fds(self._requests, PACKET, 1)
        if not data:
            for running in set(self._by_descriptor.values()):
                running.kill()
            return False
        probe: Probe = json.loads(data)
        try:
            running = Running(probe, descriptors[0])
        except OSError as error:
            now = time.time()
            self._answer(
                {
                    "id": probe["id"],
                    "exit_code": -1,
                    "output": "",
                    "error": str(error.strerror),
                    "start": now,
                    "end": now,
                }
            )
            return True
        finally:
            os.close(descriptors[0])
        for descriptor in (running.reader, running.pidfd):
            self._by_descriptor[descriptor] = running
            self._poller.register(descriptor, select.EPOLLIN)
        return True

    def _on_event(self, descriptor: int) -> None:
        running = self._by_descriptor.get(descriptor)
        if running is None:
            return
        if descriptor == running.reader:
            if not running.read():
                self._forget(descriptor)
            return
        for ours in (running.reader, running.pidfd):
            self._forget(ours)
        self._answer(running.finish())

    def _forget(self, descriptor: int) -> None:
        if self._by_descriptor.pop(descriptor, None) is not None:
            self._poller.unregister(descriptor)

    def _answer(self, answer: dict[str, Any]) -> None:
        try:
            self._requests.send(json.dumps(answer).encode())
        except OSError:
            sys.exit(0)


if __name__ == "__main__":
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.closerange(3, 1024)  # the program that we were executed from
    OWN_PID_NAMESPACE = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    OWN_IGNORED = [number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN]
    OWN_NULL = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    Prober(socket.socket(fileno=os.dup(0))).serve()
