"""The arbiter: order, readiness, ownership of the API's socket, an orderly end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import DOCKYARD, command_line, processes, until

pytestmark = pytest.mark.root

SERVICES = ("engine", "reader", "graphdriver", "dns", "netdriver", "execdriver", "builder", "apiserver")


def test_ready_is_said_by_the_arbiter_after_an_answered_ping_and_stopping_at_the_end(
    new_stack: Callable[..., Any],
) -> None:
    stack = new_stack().start()
    log = stack.log()
    order = re.findall(r"arbiter ready service=(\w+)", log)
    assert order == list(SERVICES)
    assert (
        log.index("arbiter ready service=apiserver") < log.index("first ping answered") < log.index("arbiter ready\n")
    )
    senders = {pid for pid, _ in stack.notifications}
    assert senders == {stack.process.pid}
    lines = [line for _, line in stack.notifications]
    assert lines.count("READY=1") == 1
    assert lines.index("STATUS=starting apiserver") < lines.index("READY=1")
    assert "STOPPING=1" not in lines
    stack.stop()
    until(lambda: stack.said("STOPPING=1"))
    assert stack.process.returncode == 0
    stopped = re.findall(r"stopping service=(\w+)", stack.log())
    api_then_engine = ["apiserver", "engine"]
    assert stopped == api_then_engine + [name for name in reversed(SERVICES) if name not in api_then_engine]


def test_ready_is_not_said_while_the_api_does_not_answer(new_stack: Callable[..., Any]) -> None:
    """The execdriver cannot start: there is no boot, and the API holds its answers back."""
    stack = new_stack()
    ini = stack.directory / "circus.ini"
    shipped = (Path(__file__).parents[2] / "circus.ini").read_text()
    broken = """python -c "raise SystemExit('broken on purpose')\""""
    ini.write_text(shipped.replace("python -m services.execdriver", broken))
    stack.arguments = ["--circus-ini", str(ini)]
    stack.launch()
    until(lambda: stack.said("STATUS=starting execdriver"), 30, stack.log())
    until(lambda: stack.log().count("broken on purpose") > 1, 30)
    assert not stack.said("READY=1")
    until(stack.ended, 60, "a part that fails for ever must end the stack")
    assert stack.process.returncode == 1
    assert any("execdriver" in line for _, line in stack.notifications if line.startswith("STATUS="))


def test_a_second_stack_on_the_same_root_is_refused(stack: Any) -> None:
    second = stack.dockyard("up", check=False)
    assert second.returncode == 1
    assert second.stderr == f"dockyard: another dockyard stack runs on {stack.root}\n"


def test_down_with_the_root_of_another_stack_stops_this_one_and_waits_for_it(new_stack: Callable[..., Any]) -> None:
    """Who is told to stop is known by the run directory; the root may be anything."""
    stack = new_stack().start()
    answer = stack.dockyard("--root", "/nonexistent", "down", check=False)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "arbiter stopped" in stack.log()
    until(stack.ended)


def test_a_second_stack_in_the_same_run_directory_is_refused_and_takes_nothing(stack: Any, tmp_path: Path) -> None:
    second = stack.dockyard("--root", str(tmp_path), "up", check=False)
    assert (second.returncode, second.stdout) == (1, "")
    assert f"another dockyard stack has its sockets in {stack.run}" in second.stderr
    assert stack.docker("version").returncode == 0


def test_jobs_under_way_are_done_before_those_go_whom_they_ask(new_stack: Callable[..., Any]) -> None:
    stack = new_stack()
    stack.start()
    stack.dockyard("busybox")
    stack.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", "trap '' TERM; sleep 1000 & wait; wait")
    command = [DOCKYARD, "job", "stop", "web", "--env", "timeout=2"]
    with subprocess.Popen(command, env=stack.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as stopping:
        until(lambda: "stop(web)" in stack.dockyard("jobs", "--running").stdout)
        stack.restart()
        _, said = stopping.communicate(timeout=30)
    assert (stopping.returncode, said) == (0, b"")
    assert "-job stop(web) = OK (0)" in stack.log().partition("stopping service=builder")[0]
    assert stack.out("inspect", "-f", "{{.State.ExitCode}}", "web") == "137"


def test_a_bad_setting_is_exit_78_and_names_its_key(new_stack: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "dockyard.toml"
    file.write_text('colour = "blue"\n')
    stack = new_stack(DOCKYARD_CONFIG=str(file))
    for command in ([DOCKYARD, "up"], [str(Path(DOCKYARD).parent / "python"), "-m", "services.engine"]):
        result = subprocess.run(command, env=stack.environ, capture_output=True, text=True, timeout=30, check=False)
        assert result.returncode == 78
        assert "unknown key: colour" in result.stderr


def test_extra_arguments_are_answered_with_the_usage(stack: Any) -> None:
    python = str(Path(DOCKYARD).parent / "python")
    result = subprocess.run(
        [python, "-m", "services.engine", "now"], env=stack.environ, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr.split("\n")[0]) == (0, "usage: python -m services.engine")


def test_sockets_are_for_those_who_may(stack: Any) -> None:
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in stack.run.iterdir() if path.is_socket()}
    assert modes.pop("docker.sock") == "0o660"
    assert set(modes.values()) == {"0o600"}
    assert stack.root.stat().st_mode & 0o777 == 0o710


def sockets(pid: int) -> set[str]:
    """Return the sockets that a process has, as ``socket:[INODE]``."""
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(str(descriptor.readlink()))
    return {link for link in found if link.startswith("socket:")}


def test_only_the_api_has_the_listening_sockets_and_nobody_what_else_the_arbiter_has(stack: Any) -> None:
    """circus hands on every inheritable descriptor to who uses sockets: what it would take is not inheritable."""
    shared = {}
    for service in SERVICES:
        of_arbiter = sockets(stack.process.pid)
        shared[service] = [sockets(pid) & of_arbiter for pid in stack.pids(service)]
        for pid in stack.pids(service):
            links = {os.path.realpath(link) for link in Path(f"/proc/{pid}/fd").iterdir()}
            assert not {link for link in links if "dockyard.lock" in link or "/turns/" in link}
    (listener,) = shared["apiserver"][0]
    inode = listener.removeprefix("socket:[").removesuffix("]")
    (line,) = [line for line in Path(f"/proc/{stack.process.pid}/net/unix").read_text().splitlines() if inode in line]
    assert line.endswith(f"{stack.run}/docker.sock")
    assert all(found == {listener} for found in shared.pop("apiserver"))
    assert all(found == set() for held in shared.values() for found in held)


def test_scale_changes_the_number_of_workers_and_back(stack: Any) -> None:
    before, lost, left = len(stack.pids("apiserver")), "service lost name=apiserver", "service left name=apiserver"
    said = {words: stack.log().count(words) for words in (lost, left)}
    stack.dockyard("scale", "apiserver", "4")
    until(lambda: len(stack.pids("apiserver")) == before * 2)
    until(lambda: sum(s["service"] == "apiserver" for s in services(stack)) == 4)
    assert stack.out("ps", "-q") == ""
    stack.dockyard("scale", "apiserver", "2")
    until(lambda: len(stack.pids("apiserver")) == before)
    assert "apiserver" in stack.dockyard("ps").stdout
    until(lambda: stack.log().count(left) == said[left] + 2)
    assert stack.log().count(lost) == said[lost]


def test_what_there_can_be_one_of_is_not_scaled(stack: Any) -> None:
    """A second engine would end at once, again and again, until the whole stack did."""
    for service in ("engine", "dns"):
        answer = stack.dockyard("scale", service, "2", check=False)
        assert answer.returncode == 1
        assert answer.stderr == f"dockyard: there can be only one {service}; what can be scaled: apiserver\n"
    assert stack.dockyard("scale", "engine", "1").stdout == "engine: 1 -> 1\n"


def services(stack: Any) -> Any:
    import json

    return json.loads(stack.dockyard("job", "services", "--json").stdout)


def test_killing_every_api_worker_refuses_no_connection(stack: Any) -> None:
    stop, failures, done = threading.Event(), [], []

    def loop() -> None:
        while not stop.is_set():
            result = stack.docker("ps", "-q", check=False)
            done.append(result.returncode)
            if "connect" in result.stderr.lower():
                failures.append(result.stderr)

    thread = threading.Thread(target=loop)
    thread.start()
    for _ in range(3):
        count = len(done)
        for pid in stack.pids("apiserver"):
            os.kill(pid, signal.SIGKILL)
        until(lambda count=count: len(done) > count + 5, 20)
    stop.set()
    thread.join(30)
    assert not failures
    assert done[-1] == 0


def test_restart_replaces_the_processes_one_by_one(stack: Any) -> None:
    before = set(stack.pids("execdriver"))
    stack.dockyard("restart", "execdriver")
    assert not set(stack.pids("execdriver")) & before
    assert stack.docker("run", "--rm", "busybox", "echo", "again").stdout == "again\n"


@pytest.mark.parametrize("moment", ["STATUS=starting engine", "STATUS=starting netdriver", "STATUS=starting apiserver"])
def test_sigterm_during_the_start_is_not_lost(new_stack: Callable[..., Any], moment: str) -> None:
    stack = new_stack()
    stack.launch()
    until(lambda: stack.said(moment), 30)
    stack.process.send_signal(signal.SIGTERM)
    stack.process.wait(20)
    assert stack.process.returncode == 0


def test_a_detached_stack_comes_back_when_its_arbiter_is_killed(new_stack: Callable[..., Any]) -> None:
    stack = new_stack()
    stack.directory.mkdir(exist_ok=True)
    inside = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", DOCKYARD]
    subprocess.run([*inside, "up", "--detach"], env=stack.environ, check=True, timeout=60)

    def arbiter() -> int:
        return next((pid for pid in processes() if is_arbiter(pid)), 0)

    def is_arbiter(pid: int) -> bool:
        line = command_line(pid)
        return "services.ctl.main up" in line and "dockyard-guard" not in line and run_of(pid) == str(stack.run)

    try:
        stack.dockyard("busybox")
        stack.docker("run", "-d", "--name", "survivor", "busybox", "sleep", "600")
        first = arbiter()
        os.kill(first, signal.SIGKILL)
        until(lambda: arbiter() not in (0, first), 20)
        until(lambda: stack.docker("ps", "--format", "{{.Names}}", check=False).stdout == "survivor\n", 30)
        stack.docker("rm", "-f", "survivor")
    finally:
        stack.dockyard("down")
    assert not arbiter()
    assert not stack.leftovers()


def run_of(pid: int) -> str:
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    return next((e.partition(b"=")[2].decode() for e in environ if e.startswith(b"DOCKYARD_RUN=")), "")
