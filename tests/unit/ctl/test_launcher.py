"""The launcher, over processes that only tell when they start and stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import zmq

from services.ctl.stack import Stack, StackError

PARTS = ("first", "second", "third")
STAND_IN = """\
import os, signal, sys, time
from pathlib import Path
from shared.runtime.turns import await_turn
if sys.argv[-1] == "--help":
    sys.exit(0)
directory, name = os.environ["STAND_IN"], sys.argv[1]
def tell(what):
    with open(f"{directory}/journal", "a") as journal:
        journal.write(f"{what} {name} {os.getpid()}\\n")
await_turn(Path(directory), name)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
with open(f"{directory}/{name}.environ", "w") as environ:
    environ.write("\\n".join(sorted(os.environ)))
tell("start")
with open(f"{directory}/{name}.times", "a") as times:
    times.write(f"{time.monotonic()}\\n")
if os.path.exists(f"{directory}/{name}.fails"):
    with open(f"{directory}/{name}.fails") as fails:
        sys.exit(int(fails.read() or 1))
while signal.sigwait({signal.SIGTERM}) and os.path.exists(f"{directory}/{name}.stubborn"):
    continue
if os.path.exists(f"{directory}/{name}.slow"):
    time.sleep(4)
tell("stop")
"""


class StandInStack:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "stand_in.py").write_text(STAND_IN)
        sections = [
            f"[watcher:{name}]\ncmd = python {directory}/stand_in.py {name}\npriority = {9 - index}\n"
            "max_retry = 5\ngraceful_timeout = 3\ncopy_env = True\n"
            for index, name in enumerate(PARTS)
        ]
        (directory / "circus.ini").write_text("[circus]\ncheck_delay = 0.2\n\n" + "\n".join(sections))
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(directory / "notify"))
        self.notify.setblocking(False)
        self.said: list[str] = []
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self, *ready: str, **environ: str) -> None:
        """Start with these gates open."""
        self.open(*ready)
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.unit.ctl.stand_in_stack", str(self.directory)],
                env={**os.environ, "NOTIFY_SOCKET": str(self.directory / "notify"), **environ},
                stdout=log,
                stderr=log,
            )

    def open(self, *gates: str) -> None:
        for name in gates:
            (self.directory / f"{name}.ready").touch()

    def journal(self) -> list[tuple[str, str]]:
        return [(what, name) for what, name, _ in self._entries()]

    def pids(self, name: str) -> list[int]:
        """Return the processes of a part, in the order of their starts."""
        return [pid for what, of, pid in self._entries() if (what, of) == ("start", name)]

    def _entries(self) -> list[tuple[str, str, int]]:
        path = self.directory / "journal"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(what, name, int(pid)) for what, name, pid in map(str.split, lines)]

    def notifications(self) -> list[str]:
        while True:
            try:
                self.said += self.notify.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self.said

    def until(self, condition: Callable[[], object], timeout: float = 15.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, (self.directory / "log").read_text()
            time.sleep(0.01)

    def signal(self, number: int = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def ended(self, timeout: float = 15.0) -> int:
        assert self.process is not None
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it goes on: {(self.directory / 'log').read_text()}")

    def close(self) -> None:
        """End the launcher, and whatever of it is left: a process may not have got as far as the journal."""
        self.notify.close()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        left = [pid for pid in processes() if f"{self.directory}/stand_in.py" in command_line(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left, "the launcher has left processes behind"


def processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.fixture
def stack() -> Iterator[StandInStack]:
    with tempfile.TemporaryDirectory(prefix="dy") as directory:  # short: a socket's path has 107 bytes
        made = StandInStack(Path(directory))
        yield made
        made.close()


def test_each_starts_when_the_one_before_is_ready_and_they_stop_in_reverse(stack: StandInStack) -> None:
    stack.launch()
    for index, name in enumerate(PARTS):
        stack.until(lambda name=name: ("start", name) in stack.journal())  # type: ignore[misc]
        stack.until(lambda name=name: f"STATUS=starting {name}" in stack.notifications())  # type: ignore[misc]
        assert len(stack.journal()) == index + 1
        stack.open(name)
    stack.until(lambda: "ready service=third" in (stack.directory / "log").read_text())
    assert "READY=1" not in stack.notifications()
    assert stack.notifications().count("EXTEND_TIMEOUT_USEC=65000000") == len(PARTS)  # each may take its time
    stack.open("api")
    stack.until(lambda: "READY=1" in stack.notifications())
    stack.signal()
    assert stack.ended() == 0
    assert stack.journal() == [("start", name) for name in PARTS] + [("stop", name) for name in reversed(PARTS)]
    assert stack.notifications().count("READY=1") == stack.notifications().count("STOPPING=1") == 1


def test_all_are_there_at_once_and_begin_one_after_the_other(stack: StandInStack) -> None:
    stack.launch()
    stack.until(lambda: stack.pids("first"))
    with contextlib.closing(Stack(stack.directory)) as operator:
        assert {process.service for process in operator.processes()} >= set(PARTS)
    for number, name in enumerate(PARTS):
        stack.until(lambda name=name: stack.pids(name))
        assert [begun for what, begun in stack.journal() if what == "start"] == list(PARTS[: number + 1])
        stack.open(name)
    stack.open("api")
    stack.until(lambda: "READY=1" in stack.notifications())


def test_what_systemd_says_to_the_arbiter_is_not_for_its_children(stack: StandInStack) -> None:
    theirs = {
        "LISTEN_FDS": "1",
        "LISTEN_PID": "1",
        "LISTEN_FDNAMES": "x",
        "WATCHDOG_USEC": "200000",
        "WATCHDOG_PID": "1",
    }
    stack.launch(*PARTS, "api", **theirs)
    stack.until(lambda: stack.notifications().count("WATCHDOG=1") > 2)
    for name in PARTS:
        names = set((stack.directory / f"{name}.environ").read_text().split())
        assert not names & {*theirs, "NOTIFY_SOCKET"}
        assert "STAND_IN" in names


def test_the_watchdog_is_not_fed_for_a_stack_that_does_not_answer(stack: StandInStack) -> None:
    (stack.directory / "api.dead").touch()
    stack.launch(*PARTS, "api", WATCHDOG_USEC="100000")
    stack.until(lambda: "READY=1" in stack.notifications())
    deadline = time.monotonic() + 0.5
    stack.until(lambda: time.monotonic() > deadline)
    assert "WATCHDOG=1" not in stack.notifications()


def test_a_killed_process_comes_back(stack: StandInStack) -> None:
    stack.launch(*PARTS, "api")
    stack.until(lambda: "READY=1" in stack.notifications())
    stack.until(lambda: all(stack.pids(name) for name in PARTS))
    os.kill(stack.pids("second")[0], signal.SIGKILL)
    stack.until(lambda: len(stack.pids("second")) == 2)
    assert len(stack.pids("first")) == len(stack.pids("third")) == 1


def test_what_the_operator_asks_for_is_no_failure(stack: StandInStack) -> None:
    stack.launch(*PARTS, "api")
    stack.until(lambda: "READY=1" in stack.notifications())
    with contextlib.closing(Stack(stack.directory)) as operator:
        operator.scale("third", 14)
        operator.scale("third", 1)
        for _ in range(2):
            operator.restart("third")
        stack.until(lambda: len(operator.pids("third")) == 1)
    deadline = time.monotonic() + 2.5  # two looks of the supervision
    stack.until(lambda: time.monotonic() > deadline)
    assert stack.process is not None
    assert stack.process.poll() is None


def test_one_that_hangs_is_replaced_too(stack: StandInStack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.launch(*PARTS, "api")
    stack.until(lambda: "READY=1" in stack.notifications() and stack.pids("third"))
    (before,) = stack.pids("third")
    os.kill(before, signal.SIGSTOP)
    monkeypatch.setattr("services.ctl.stack.RESTART_TIMEOUT", 0.5)
    with contextlib.closing(Stack(stack.directory)) as operator:
        operator.restart("third")
        assert before not in operator.pids("third")


def test_only_what_ended_unasked_is_counted_as_a_restart(stack: StandInStack) -> None:
    stack.launch(*PARTS, "api")
    stack.until(lambda: "READY=1" in stack.notifications())
    stack.until(lambda: all(stack.pids(name) for name in PARTS))
    with contextlib.closing(Stack(stack.directory)) as operator:
        os.kill(stack.pids("second")[0], signal.SIGKILL)
        stack.until(lambda: len(stack.pids("second")) == 2)
        operator.restart("third")
        stack.until(lambda: len(operator.pids("third")) == 1)
        found = {process.service: process for process in operator.processes()}
    assert {service: process.restarts for service, process in found.items()} == {
        "arbiter": None, "first": 0, "second": 1, "third": 0,
    }  # fmt: skip
    assert stack.process is not None
    assert found["arbiter"].pids == (stack.process.pid,)
    assert found["second"].pid == stack.pids("second")[1]


def test_one_that_fails_for_ever_ends_the_stack(stack: StandInStack) -> None:
    (stack.directory / "second.fails").touch()
    stack.launch("first")
    assert stack.ended(30) == 1
    assert any("second was restarted" in line for line in stack.notifications())
    assert stack.journal().count(("start", "second")) <= 20
    assert stack.journal()[-1] == ("stop", "first")


@pytest.mark.parametrize("running", [False, True])
def test_one_whose_configuration_is_wrong_ends_the_stack_at_once_with_78(stack: StandInStack, running: bool) -> None:
    """It is no use to start it again, neither at the boot nor when it comes back after a change."""
    if running:
        stack.launch(*PARTS, "api")
        stack.until(lambda: "READY=1" in stack.notifications() and stack.pids("second"))
    (stack.directory / "second.fails").write_text("78")
    if running:
        os.kill(stack.pids("second")[0], signal.SIGKILL)
    else:
        stack.launch("first")
    assert stack.ended() == 78
    assert any("second ended with 78" in line for line in stack.notifications())
    assert len(stack.pids("second")) <= 2 + running


def test_one_that_cannot_be_executed_ends_the_stack(stack: StandInStack) -> None:
    ini = stack.directory / "circus.ini"
    ini.write_text(ini.read_text().replace(f"python {stack.directory}/stand_in.py second", "/nonexistent/program"))
    stack.launch("first")
    assert stack.ended(30) == 1
    assert "STATUS=second could not be started" in stack.notifications()


@pytest.mark.parametrize(("trouble", "text"), [("late", "second is not ready in time"), ("fault", "a bug in the wait")])
def test_a_boot_that_cannot_end_is_a_failure_that_names_the_part(stack: StandInStack, trouble: str, text: str) -> None:
    (stack.directory / f"second.{trouble}").touch()
    stack.launch("first")
    assert stack.ended() == 1
    assert text in (stack.directory / "log").read_text()
    assert "READY=1" not in stack.notifications()
    assert stack.journal()[-1] == ("stop", "first")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("opened", [0, 1, 2])
def test_a_signal_during_the_start_is_not_lost(stack: StandInStack, number: int, opened: int) -> None:
    stack.launch(*PARTS[:opened])
    started = PARTS[: opened + 1]
    stack.until(lambda: all(stack.pids(name) for name in started))
    stack.signal(number)
    assert stack.ended() == 0
    assert [name for what, name in stack.journal() if what == "stop"] == list(reversed(started))


def refusal(ask: Callable[[str], None], service: str) -> str:
    """Return why something was not done; empty if it was."""
    try:
        ask(service)
    except StackError as error:
        return str(error)
    return ""


def test_what_ends_at_once_is_started_later_and_later_and_told(stack: StandInStack) -> None:
    stack.launch(*PARTS, "api")
    stack.until(lambda: "READY=1" in stack.notifications() and stack.pids("second"))
    (stack.directory / "second.fails").touch()
    os.kill(stack.pids("second")[0], signal.SIGKILL)
    stack.until(lambda: len(stack.pids("second")) > 5)
    told = "STATUS=degraded: second is down, ended"
    stack.until(lambda: any(line.startswith(told) for line in stack.notifications()))
    with contextlib.closing(Stack(stack.directory)) as operator:
        stack.until(lambda: operator.condition()["down"].get("second", "").startswith("second is down, ended "))
        stack.until(lambda: "down" in [p.status for p in operator.processes() if p.service == "second"])
        for ask in (operator.restart, lambda service: operator.replace(service, set)):
            stack.until(lambda ask=ask: "no process to replace" in refusal(ask, "second"))
        (stack.directory / "second.fails").unlink()
        stack.until(lambda: operator.condition()["down"] == {})
    times = [float(line) for line in (stack.directory / "second.times").read_text().split()]
    pauses = [after - before for before, after in pairwise(times[1:])]
    assert pauses[0] < 1.5  # the first is replaced at once
    assert pauses[-1] > 0.7


def test_what_is_no_command_does_not_end_the_arbiter(stack: StandInStack) -> None:
    stack.launch(*PARTS, "api")
    stack.until(lambda: "READY=1" in stack.notifications())
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.linger = 0
        client.connect(f"ipc://{stack.directory}/circus.sock")
        client.rcvtimeo = 15_000
        for text in (b"[]", b"null", b'{"command": 1}', b"\xff", b"{", b"", b'{"command": "add", "properties": 7}'):
            client.send(text)
            assert b"error" in client.recv()
    with contextlib.closing(Stack(stack.directory)) as operator:
        assert operator.services() == sorted(PARTS)


def test_a_part_comes_back_while_another_is_being_stopped(stack: StandInStack) -> None:
    """Circus reaps nobody while a command runs: so none may take long."""
    (stack.directory / "third.stubborn").touch()
    stack.launch(*PARTS, "api")
    stack.until(lambda: "READY=1" in stack.notifications() and all(stack.pids(name) for name in PARTS))
    began = time.monotonic()
    with contextlib.closing(Stack(stack.directory)) as operator:
        operator.scale("third", 2)
        stack.until(lambda: len(stack.pids("third")) == 2)
        scaling = threading.Thread(target=operator.scale, args=("third", 1))
        scaling.start()
        os.kill(stack.pids("second")[0], signal.SIGKILL)
        stack.until(lambda: len(stack.pids("second")) == 2)
        scaling.join()
    assert time.monotonic() - began < 8


def test_a_part_that_ends_is_replaced_at_once_and_not_at_the_next_look(stack: StandInStack) -> None:
    ini = stack.directory / "circus.ini"
    ini.write_text(ini.read_text().replace("check_delay = 0.2", "check_delay = 60"))
    stack.launch(*PARTS, "api")
    stack.until(lambda: "READY=1" in stack.notifications() and stack.pids("second"))
    os.kill(stack.pids("second")[0], signal.SIGKILL)
    stack.until(lambda: len(stack.pids("second")) == 2)


# -- upgrades


def ready_again(stack: StandInStack, times: int = 2) -> bool:
    return stack.notifications().count("READY=1") == times


def test_an_upgrade_replaces_all_one_by_one_under_the_same_arbiter(stack: StandInStack) -> None:
    stack.launch(*PARTS, "api", WATCHDOG_USEC="2000000")
    stack.until(lambda: ready_again(stack, 1) and all(stack.pids(name) for name in PARTS))
    with contextlib.closing(Stack(stack.directory)) as operator:
        operator.scale("third", 2)
        stack.until(lambda: len(stack.pids("third")) == 2)
        stack.directory.joinpath("journal").unlink()
        for generation in (1, 2):
            upgrading = threading.Thread(target=operator.upgrade)
            upgrading.start()  # what it tells must be read meanwhile
            stack.until(lambda: stack.notifications() and not upgrading.is_alive(), 30)  # noqa: B023
            assert operator.condition()["generation"] == generation
            stack.until(lambda: len(stack.journal()) == 8 * generation)  # noqa: B023
        assert len(operator.pids("third")) == 2
    assert [name for what, name in stack.journal() if what == "stop"] == ["first", "second", "third", "third"] * 2
    for name, wanted in zip(
        PARTS, (["stop", "start"], ["stop", "start"], ["stop", "stop", "start", "start"]), strict=True
    ):
        assert [what for what, of in stack.journal() if of == name] == wanted * 2
    said = stack.notifications()
    assert said.count("RELOADING=1") == 2
    assert [line for line in said if line.startswith("MONOTONIC_USEC=")]
    assert ready_again(stack, 3)
    assert said.count("WATCHDOG=1") >= 6  # each part that is replaced is a sign of life
    stack.signal()
    assert stack.ended() == 0
    assert [what for what, _ in stack.journal()[16:]] == ["stop"] * 4


def test_a_part_has_the_time_for_its_jobs_that_it_is_configured_to_have(stack: StandInStack) -> None:
    (stack.directory / "second.slow").touch()
    stack.launch(*PARTS, "api")
    stack.until(lambda: "READY=1" in stack.notifications())
    stack.until(lambda: len(stack.journal()) == len(PARTS))
    stack.signal()
    assert stack.ended(20) == 0
    assert [name for what, name in stack.journal() if what == "stop"] == ["third", "second", "first"]


def test_sighup_is_an_upgrade_and_a_stubborn_predecessor_is_killed(stack: StandInStack) -> None:
    (stack.directory / "second.stubborn").touch()
    stack.launch(*PARTS, "api")
    stack.until(lambda: ready_again(stack, 1) and all(stack.pids(name) for name in PARTS))
    stack.signal(signal.SIGHUP)
    stack.signal(signal.SIGHUP)
    stack.until(lambda: ready_again(stack))
    stack.until(lambda: {name: len(stack.pids(name)) for name in PARTS} == dict.fromkeys(PARTS, 2))
    stack.until(lambda: not Path(f"/proc/{stack.pids('second')[0]}").exists())


def test_what_cannot_run_is_not_begun(stack: StandInStack) -> None:
    stack.launch(*PARTS, "api")
    stack.until(lambda: ready_again(stack, 1) and all(stack.pids(name) for name in PARTS))
    ini = (stack.directory / "circus.ini").read_text()
    troubles = {
        "config.wrong": "the configuration is refused: ",
        "circus.ini": "python /nonexistent.py does not run: ",
    }
    for name, trouble in troubles.items():
        path = stack.directory / name
        path.write_text(ini.replace(f"{stack.directory}/stand_in.py second", "/nonexistent.py"))
        with contextlib.closing(Stack(stack.directory)) as operator, pytest.raises(StackError, match=trouble):
            operator.upgrade()
        path.unlink()
    assert [what for what, _ in stack.journal()] == ["start"] * 3
    assert any(line.startswith("STATUS=ready; no upgrade: ") for line in stack.notifications())


def test_a_successor_that_does_not_come_up_ends_the_stack_with_its_name(stack: StandInStack) -> None:
    stack.launch(*PARTS, "api")
    stack.until(lambda: ready_again(stack, 1) and all(stack.pids(name) for name in PARTS))
    (stack.directory / "second.late").touch()
    (stack.directory / "second.ready").unlink()
    stack.signal(signal.SIGHUP)
    assert stack.ended() == 1
    assert "STATUS=second is not ready in time" in stack.notifications()
    assert [what for what, name in stack.journal() if name == "third"] == ["start", "stop"]  # the predecessor


def test_sigterm_in_an_upgrade_ends_successors_and_predecessors(stack: StandInStack) -> None:
    stack.launch(*PARTS, "api")
    stack.until(lambda: ready_again(stack, 1) and all(stack.pids(name) for name in PARTS))
    (stack.directory / "second.ready").unlink()
    stack.signal(signal.SIGHUP)
    stack.until(lambda: len(stack.pids("second")) == 2)
    stack.signal()
    assert stack.ended() == 0
    assert all([what for what, of in stack.journal() if of == name].count("stop") for name in PARTS)
    assert len(stack.journal()) == 2 * 5


def test_the_control_endpoint_is_roots_alone(stack: StandInStack) -> None:
    stack.launch(*PARTS, "api")
    stack.until(lambda: "READY=1" in stack.notifications())
    assert (stack.directory / "circus.sock").stat().st_mode & 0o777 == 0o600
    assert (stack.directory / "circus-events.sock").stat().st_mode & 0o777 == 0o600
