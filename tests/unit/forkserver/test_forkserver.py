"""The fork server, with programs of ours: what it begins is what an execution begins, and a child of who asked."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.ctl import forks
from services.ctl.children import ChildProcess
from services.ctl.forking import environ_of_children
from services.ctl.forks import ForkServer
from services.forkserver import server as forkserver
from shared.runtime.birth import ALL, Birth, ask
from tests.forks import is_fork_of

INI = "[watcher:builder]\ncmd = python -m services.builder\n"
BUILDER = "python -m services.builder"


@pytest.fixture
def ini(tmp_path: Path) -> Path:
    path = tmp_path / "circus.ini"
    path.write_text(INI)
    return path


@pytest.fixture
def server(ini: Path) -> Iterator[ForkServer]:
    made = ForkServer(ini)
    yield made
    made.close()


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., ChildProcess]]:
    """Begin programs as circus does; the builder waits for its turn until the end of the test."""
    (tmp_path / "turns").mkdir()
    begun: list[ChildProcess] = []

    def made(command: str, server: ForkServer | None, *, sockets: bool = False, **environ: str) -> ChildProcess:
        watcher = SimpleNamespace(fork_server=server, sockets=None, optnames=(), _get_stdin_socket_fd=lambda: None)
        own = {"DOCKYARD_ROOT": str(tmp_path), "DOCKYARD_RUN": str(tmp_path), "DOCKYARD_DEBUG": "false", **environ}
        variables = {**environ_of_children(os.environ), **own}
        begun.append(ChildProcess("part", 1, command, env=variables, watcher=watcher, use_fds=sockets,
                                  working_dir=str(tmp_path), pipe_stdout=False, pipe_stderr=False))  # fmt: skip
        return begun[-1]

    # as the arbiter has handlers, and who executes: whoever runs us in the background may have had some ignored
    handled = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
    former = {number: signal.signal(number, signal.default_int_handler) for number in handled}
    with (tmp_path / "turns/builder").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        yield made
        for number, handler in former.items():
            signal.signal(number, handler)
        for process in begun:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()


def until(condition: Callable[[], object], timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def waits(pid: int) -> bool:
    """Whether it waits for its turn: flock(2) is in /proc/locks as a waiter's."""
    return any(f" {pid} " in line and "->" in line for line in Path("/proc/locks").read_text().splitlines())


def ended(process: ChildProcess) -> int | None:
    until(lambda: process.poll() is not None)
    return process.poll()


def look(pid: int) -> dict[str, Any]:
    """Return what the kernel tells of a process, but numbers that are its own."""
    at = Path("/proc", str(pid))
    status = dict(line.split(":\t", 1) for line in (at / "status").read_text().splitlines() if ":\t" in line)
    kept = ("Name", "Umask", "PPid", "Uid", "Gid", "Groups", "Threads", "NoNewPrivs", "Seccomp", "CapEff", "CapBnd")
    signals = ("SigBlk", "SigIgn", "SigCgt", "ShdPnd")
    glibcs = 3 << 31  # signals 32 and 33, which posix_spawn(3) leaves ignored
    fields = (at / "stat").read_text().rpartition(")")[2].split()
    descriptors = {entry.name: str(entry.readlink()) for entry in (at / "fd").iterdir()}
    return {
        **{name: status[name] for name in kept},
        **{name: int(status[name], 16) & ~glibcs for name in signals},
        "command": (at / "cmdline").read_bytes(),
        "environ": dict(one.split(b"=", 1) for one in (at / "environ").read_bytes().split(b"\0") if one),
        "leads": (int(fields[2]) == pid, int(fields[3]) == pid),  # its group, its session
        "descriptors": {name: target.rpartition("/")[2] for name, target in descriptors.items()},
        "at": str((at / "cwd").readlink()),
        "program": str((at / "exe").readlink()),
        "limits": (at / "limits").read_text(),
        "cgroup": (at / "cgroup").read_text(),
        "children": (at / "task" / str(pid) / "children").read_text(),
    }  # fmt: skip


@pytest.mark.parametrize("sockets", [False, True])
def test_what_is_forked_is_what_is_executed(
    server: ForkServer, begin: Callable[..., ChildProcess], *, sockets: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        number = fcntl.fcntl(listener.fileno(), fcntl.F_DUPFD, 700)  # inheritable, and nobody else's
        try:
            pids = [begin(BUILDER, one, sockets=sockets, COLOUR="blue=1").pid for one in (server, None)]
        finally:
            os.close(number)
    until(lambda: all(map(waits, pids)))
    assert [is_fork_of(pid, server.pid) for pid in pids] == [True, False]
    forked, executed = map(look, pids)
    assert forked == executed
    assert forked["environ"][b"COLOUR"] == b"blue=1"
    assert (str(number) in forked["descriptors"]) == sockets


def test_how_it_ends_is_told_to_its_parent(server: ForkServer, begin: Callable[..., ChildProcess], capfd: Any) -> None:
    assert ended(begin(f"{BUILDER} --help", server)) == 0
    assert "usage: python -m services.builder" in capfd.readouterr().err
    assert ended(begin(BUILDER, server, DOCKYARD_COLOUR="blue")) == 78
    assert "dockyard builder: " in capfd.readouterr().err
    killed = begin(BUILDER, server)
    assert Path(f"/proc/{killed.pid}/stat").read_text().rpartition(")")[2].split()[1] == str(os.getpid())
    killed.send_signal(signal.SIGKILL)
    assert ended(killed) == -signal.SIGKILL


def test_a_program_that_is_not_loaded_ahead_is_loaded_when_it_is_asked_for(
    server: ForkServer, begin: Callable[..., ChildProcess]
) -> None:
    process = begin("python -m services.execdriver", server, DOCKYARD_COLOUR="blue")
    assert ended(process) == 78


@pytest.mark.parametrize("command", [f'{sys.executable} -c "import sys; sys.exit(7)"', "python -c 'exit(7)'"])
def test_what_is_no_module_of_ours_is_executed(
    server: ForkServer, begin: Callable[..., ChildProcess], command: str
) -> None:
    assert ended(begin(command, server)) == 7


def test_what_cannot_be_loaded_is_executed_and_says_why(
    server: ForkServer, begin: Callable[..., ChildProcess], capfd: Any
) -> None:
    assert ended(begin("python -m services.tomorrow", server)) == 1
    assert "No module named services.tomorrow" in capfd.readouterr().err


def test_without_a_server_it_is_executed(server: ForkServer, begin: Callable[..., ChildProcess]) -> None:
    os.kill(server.pid, signal.SIGKILL)
    pid = begin(BUILDER, server).pid
    until(lambda: waits(pid))
    assert look(pid)["command"] == b"python\0-m\0services.builder\0"


def test_a_server_that_does_not_answer_is_given_up(
    server: ForkServer, begin: Callable[..., ChildProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forks, "LOADING", 0.3)
    hanging = server.pid
    os.kill(hanging, signal.SIGSTOP)
    pid = begin(BUILDER, server).pid
    until(lambda: waits(pid))
    assert not Path(f"/proc/{hanging}").exists()
    assert server.pid == 0


@pytest.mark.parametrize("hang_up", [True, False])
def test_who_is_not_expected_ends_before_it_has_done_anything(
    server: ForkServer, tmp_path: Path, *, hang_up: bool
) -> None:
    ours, theirs = socket.socketpair()
    assert server._control is not None
    with ours, theirs, (tmp_path / "said").open("w+b") as said:
        birth = Birth(["python", "-m", "services.builder", "--help"], dict(os.environ), "/", [0, 1, 2])
        ask(server._control, birth, theirs.fileno(), [said.fileno()] * 3)
        pid = int(ours.makefile().readline())
        if hang_up:
            ours.close()
        else:
            ours.send(b"?")
        _, status = os.waitpid(pid, 0)
        said.seek(0)
        assert (os.waitstatus_to_exitcode(status), said.read()) == (1, b"")


def test_it_waits_on_a_descriptor_of_any_number() -> None:
    """select(2) knows none beyond 1023."""
    asker, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with asker, control, socket.socket(fileno=fcntl.fcntl(control.fileno(), fcntl.F_DUPFD_CLOEXEC, 1100)) as high:
        asker.shutdown(socket.SHUT_WR)
        assert forkserver.serve(high, ["services.builder"]) is None


def test_where_the_kernel_has_no_such_call_the_server_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty report has a program executed, as in `test_without_a_server_it_is_executed`."""

    def refused() -> int:
        raise OSError(errno.ENOSYS, "clone3")

    monkeypatch.setattr(forkserver, "clone", refused)
    monkeypatch.setattr(forkserver.gc, "freeze", lambda: None)
    asker, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    asker.settimeout(10)
    with asker, control, ours, ThreadPoolExecutor(1) as pool:
        served = pool.submit(forkserver.serve, control, ["services.builder"])
        with theirs:
            ask(asker, Birth(["python", "-m", "services.builder"], {}, "/", [0]), theirs.fileno(), [0])
        assert ours.recv(1) == b""
        assert (asker.recv(100), asker.recv(100)) == (b"services.builder", ALL)
        asker.close()
        assert served.result(10) is None


def test_another_is_begun_when_it_has_died(ini: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "FIRST_PAUSE", 0.05)

    async def live() -> None:
        server = ForkServer(ini)
        try:
            server.attend(asyncio.get_running_loop())
            await asyncio.wait_for(server.loaded(BUILDER), 20)
            await asyncio.wait_for(server.loaded("python -m services.engine"), 20)  # nobody loads that ahead
            first = server.pid
            os.kill(first, signal.SIGKILL)
            while server.pid in (0, first):
                await asyncio.sleep(0.01)
            assert not Path(f"/proc/{first}").exists()
            await asyncio.wait_for(server.loaded(BUILDER), 20)
        finally:
            server.close()

    asyncio.run(asyncio.wait_for(live(), 60))


def test_it_ends_with_who_has_begun_it(ini: Path) -> None:
    reader, writer = os.pipe()
    if (parent := os.fork()) == 0:
        with contextlib.suppress(BaseException):
            os.write(writer, b"%d\n" % ForkServer(ini).pid)
            signal.pause()
        os._exit(0)
    server = int(os.read(reader, 32))
    descriptor = os.pidfd_open(server)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    assert poller.poll(10_000)
    for one in (reader, writer, descriptor):
        os.close(one)


def test_it_has_one_thread_and_nothing_open(server: ForkServer) -> None:
    """Loading a program of ours starts nothing and opens nothing: all that it forks would have it."""

    async def load() -> None:
        server.attend(asyncio.get_running_loop())
        await server.loaded("python -m services.everything")

    shipped = Path(__file__).parents[3] / "circus.ini"
    server.close()
    server._ini = shipped
    server._begin()
    asyncio.run(load())
    at = Path("/proc", str(server.pid))
    assert len(list((at / "task").iterdir())) == 1
    assert sorted(int(entry.name) for entry in (at / "fd").iterdir()) == [0, 1, 2, 3]
    for name in ("services.apiserver", "services.netdriver.dns"):
        assert name.encode() in server._loaded
