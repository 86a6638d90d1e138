"""`docker exec`: streams, terminals, users, exit codes; and what it survives."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import until

pytestmark = pytest.mark.root


@pytest.fixture
def web(stack: Any) -> str:
    return str(stack.out("run", "-d", "--name", "web", "busybox", "sleep", "1d"))


class Api(http.client.HTTPConnection):
    def __init__(self, stack: Any) -> None:
        super().__init__("docker", timeout=30)
        self.path = str(stack.run / "docker.sock")

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def api(stack: Any, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = Api(stack)
    headers = {"Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    kind = response.headers.get("Content-Type", "")
    return response.status, json.loads(data) if data and kind == "application/json" else data


def create(stack: Any, *command: str, **settings: Any) -> str:
    settings = {"AttachStdout": True, "AttachStderr": True, **settings}
    status, answer = api(stack, "POST", "/containers/web/exec", {"Cmd": list(command), **settings})
    assert status == 201, answer
    return str(answer["Id"])


def inspect(stack: Any, exec_id: str) -> Any:
    status, answer = api(stack, "GET", f"/exec/{exec_id}/json")
    assert status == 200, answer
    return answer


def kill(pids: list[int]) -> None:
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def kill_and_await(stack: Any, service: str) -> None:
    before = set(stack.pids(service))
    kill(list(before))
    until(lambda: (after := set(stack.pids(service))) and not after & before)


def test_streams_and_exit_codes(stack: Any, web: str) -> None:
    result = stack.docker("exec", "web", "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (result.returncode, result.stdout, result.stderr) == (7, "out\n", "err\n")
    assert stack.docker("exec", "web", "sh", "-c", "kill -9 $$", check=False).returncode == 137
    assert stack.docker("exec", "web", "sh", "-c", "kill $$", check=False).returncode == 143


@pytest.mark.parametrize("terminal", [[], ["-t"]])
@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (["nonesuch"], 127, 'exec: "nonesuch": executable file not found in $PATH: unknown'),
        (["/bin/nonesuch"], 127, "no such file or directory: unknown"),
        (["/etc"], 126, 'exec: "/etc": is a directory: permission denied: unknown'),
        (["/etc/passwd"], 126, 'exec: "/etc/passwd": permission denied: unknown'),
    ],
)
def test_a_command_that_cannot_run(
    stack: Any, web: str, command: list[str], code: int, text: str, terminal: list[str]
) -> None:
    result = stack.docker("exec", *terminal, "web", *command, check=False)
    assert result.returncode == code
    assert result.stdout.startswith("OCI runtime exec failed: exec failed: unable to start container process: ")
    assert text in result.stdout


def test_a_detached_command_that_cannot_run_is_an_error(stack: Any, web: str) -> None:
    exec_id = create(stack, "nonesuch")
    status, answer = api(stack, "POST", f"/exec/{exec_id}/start", {"Detach": True})
    assert status == 400
    assert "executable file not found in $PATH" in answer["message"]
    assert inspect(stack, exec_id)["ExitCode"] == 127


@pytest.mark.parametrize("terminal", [False, True])
def test_nothing_is_waited_for_that_does_not_come(stack: Any, web: str, terminal: bool) -> None:
    """An exec takes as long as its process and what makes it: far from a second, on a slow machine too."""
    took = []
    for _ in range(5):
        exec_id = create(stack, "true", Tty=terminal)
        began = time.monotonic()
        assert api(stack, "POST", f"/exec/{exec_id}/start", {"Tty": terminal})[0] == 200
        took.append(time.monotonic() - began)
    assert min(took) < 0.8


def test_half_close_and_much_data(stack: Any, web: str) -> None:
    data = "".join(f"line {number}\n" for number in range(50_000))
    assert stack.docker("exec", "-i", "web", "cat", input=data).stdout == data
    assert (
        stack.docker("exec", "-i", "web", "sh", "-c", "cat | wc -l; exit 4", input="a\nb\n", check=False).stdout
        == "2\n"
    )


def test_user_directory_and_environment(stack: Any, web: str) -> None:
    shell = 'id -u; pwd; echo "$A $HOME $HOSTNAME"'
    out = stack.out("exec", "-u", "nobody", "-w", "/tmp", "-e", "A=b", "web", "sh", "-c", shell)
    assert out.splitlines()[:2] == ["65534", "/tmp"]
    assert out.splitlines()[2].split()[0] == "b"
    assert web[:12] in out
    assert stack.out("exec", "-u", "1234:4321", "web", "sh", "-c", "id -u; id -g; id -G") == "1234\n4321\n4321"
    unknown = stack.docker("exec", "-u", "nonesuch", "web", "true", check=False)
    assert unknown.returncode == 126
    assert "unable to find user nonesuch: no matching entries in passwd file" in unknown.stdout
    missing = stack.docker("exec", "-w", "/nonesuch", "web", "pwd", check=False)
    assert missing.returncode == 127
    assert 'chdir to cwd ("/nonesuch") set in config.json failed: no such file or directory' in missing.stdout


def test_users_are_those_that_the_container_sees(stack: Any, tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("bound:x:77:78:::/bin/sh\n")
    stack.docker("run", "-d", "--name", "web", "-v", f"{tmp_path}/passwd:/etc/passwd:ro", "busybox", "sleep", "1d")
    assert stack.out("exec", "-u", "bound", "web", "id", "-u") == "77"


def test_the_sandbox_is_the_containers(stack: Any) -> None:
    stack.docker(
        "run", "-d", "--name", "web", "--cap-drop", "CHOWN", "--security-opt", "no-new-privileges", "--ulimit",
        "nofile=99:99", "busybox", "sleep", "1d",
    )  # fmt: skip
    status = dict(
        line.split(":\t") for line in stack.out("exec", "web", "cat", "/proc/self/status").splitlines() if ":\t" in line
    )
    own = dict(
        line.split(":\t") for line in stack.out("exec", "web", "cat", "/proc/1/status").splitlines() if ":\t" in line
    )
    for name in ("CapBnd", "CapEff", "CapPrm", "CapInh", "CapAmb", "NoNewPrivs", "Seccomp"):
        assert status[name] == own[name], name
    assert int(status["CapBnd"], 16) & 1 == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert stack.out("exec", "web", "sh", "-c", "ulimit -n") == "99"
    assert stack.docker("exec", "web", "unshare", "-m", "true", check=False).returncode != 0
    assert stack.out("exec", "web", "cat", "/proc/self/cgroup") == stack.out("exec", "web", "cat", "/proc/1/cgroup")
    nobody = stack.out("exec", "-u", "nobody", "web", "cat", "/proc/self/status")
    assert "CapEff:\t0000000000000000" in nobody
    privileged = stack.out("exec", "--privileged", "web", "grep", "CapEff", "/proc/self/status")
    assert int(privileged.split()[1], 16) & 1 << 21  # CAP_SYS_ADMIN


def test_nothing_of_ours_is_open_inside(stack: Any, web: str) -> None:
    listing = "exec 2>/dev/null; for f in /proc/self/fd/*; do [ -e $f ] && echo ${f##*/}; done; true"
    assert set(stack.out("exec", "web", "sh", "-c", listing).split()) <= {"0", "1", "2"}
    for number in range(32):
        found = stack.docker(
            "exec",
            "-w",
            f"/proc/self/fd/{number}",
            "web",
            "sh",
            "-c",
            "ls -d ./engine.db ../../../../work",
            check=False,
        )
        assert found.returncode != 0, number


@contextmanager
def terminal(
    stack: Any, *command: str, size: tuple[int, int] = (33, 77)
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a docker command on a terminal of that size; yields it and our end."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    process = subprocess.Popen(
        ["docker", *command], env=stack.environ, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    try:
        yield process, master
    finally:
        process.kill()
        process.wait()
        os.close(master)


def read_until(master: int, text: str) -> str:
    seen = ""
    deadline = time.monotonic() + 20
    while text not in seen:
        assert time.monotonic() < deadline, seen
        seen += os.read(master, 4096).decode(errors="replace")
    return seen


def test_a_terminal_and_its_size(stack: Any, web: str) -> None:
    with terminal(stack, "exec", "-it", "web", "sh") as (process, master):
        read_until(master, "# ")
        os.write(master, b"stty size; tty\n")
        assert "33 77" in read_until(master, "/dev/pts")
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))

        def resized() -> bool:
            os.killpg(process.pid, signal.SIGWINCH)  # again: the CLI may not listen for it yet
            os.write(master, b"stty size; echo do''ne\n")
            return "40 100" in read_until(master, "done")

        until(resized)
        os.write(master, b"exit 5\n")
        until(lambda: process.poll() is not None)
        assert process.returncode == 5


def test_the_console_size_is_there_from_the_start(stack: Any, web: str) -> None:
    for _ in range(5):
        exec_id = create(stack, "stty", "size", Tty=True, AttachStdin=True)
        status, out = api(stack, "POST", f"/exec/{exec_id}/start", {"Tty": True, "ConsoleSize": [21, 43]})
        assert (status, out) == (200, b"21 43\r\n")


def test_the_detach_keys_leave_it_running(stack: Any, web: str) -> None:
    with terminal(stack, "exec", "-it", "--detach-keys", "ctrl-a,x", "web", "sh", "-c", "echo up; sleep 100") as (
        process,
        master,
    ):
        read_until(master, "up")
        (exec_id,) = json.loads(stack.out("inspect", "-f", "{{json .ExecIDs}}", "web"))
        os.write(master, b"\x01x")
        until(lambda: process.poll() is not None)
    assert inspect(stack, exec_id)["Running"]


def test_a_client_that_hangs_up_leaves_it_running(stack: Any, web: str) -> None:
    process = subprocess.Popen(
        ["docker", "exec", "web", "sh", "-c", "echo up; sleep 1; echo on > /on; exit 6"],
        env=stack.environ, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    (exec_id,) = json.loads(stack.out("inspect", "-f", "{{json .ExecIDs}}", "web"))
    process.kill()
    process.communicate()
    until(lambda: not inspect(stack, exec_id)["Running"])
    assert inspect(stack, exec_id)["ExitCode"] == 6
    assert stack.out("exec", "web", "cat", "/on") == "on"


def test_inspect_and_events(stack: Any, web: str) -> None:
    since = str(time.time())
    exec_id = create(stack, "sh", "-c", "exit 3", User="nobody")
    assert inspect(stack, exec_id)["ExitCode"] is None
    assert api(stack, "POST", f"/exec/{exec_id}/start", {})[0] == 200
    shown = inspect(stack, exec_id)  # at once: the code is there before the stream closes
    assert (shown["Running"], shown["ExitCode"], shown["ContainerID"]) == (False, 3, web)
    assert shown["ProcessConfig"] == {
        "tty": False, "entrypoint": "sh", "arguments": ["-c", "exit 3"], "privileged": False, "user": "nobody",
    }  # fmt: skip
    status, answer = api(stack, "POST", f"/exec/{exec_id}/start", {})
    assert (status, answer["message"]) == (409, f"exec command {exec_id} has already run")
    assert api(stack, "GET", "/exec/nonesuch/json") == (404, {"message": "No such exec instance: nonesuch"})
    events = stack.out(
        "events",
        "--since",
        since,
        "--until",
        str(time.time()),
        "--format",
        "{{.Action}} {{.Actor.Attributes.exitCode}}",
    )
    assert [line for line in events.splitlines() if line.startswith("exec")] == [
        "exec_create: sh -c exit 3 <no value>", "exec_start: sh -c exit 3 <no value>", "exec_die 3",
    ]  # fmt: skip


def test_a_container_that_does_not_run_takes_no_exec(stack: Any, web: str) -> None:
    exec_id = create(stack, "true")
    stack.docker("kill", "web")
    for path in ("/containers/web/exec", f"/exec/{exec_id}/start"):
        status, answer = api(stack, "POST", path, {"Cmd": ["true"]})
        assert (status, answer["message"]) == (409, f"container {web} is not running")


def test_the_end_of_the_container_ends_its_execs(stack: Any, web: str) -> None:
    exec_id = create(stack, "sleep", "1000")
    answers: list[tuple[int, Any]] = []
    client = threading.Thread(target=lambda: answers.append(api(stack, "POST", f"/exec/{exec_id}/start", {})))
    client.start()
    until(lambda: inspect(stack, exec_id)["Running"])
    stack.docker("kill", "web")
    client.join(20)
    assert answers == [(200, b"")]
    assert (inspect(stack, exec_id)["Running"], inspect(stack, exec_id)["ExitCode"]) == (False, 137)


def test_a_client_that_does_not_read_does_not_hold_the_container(stack: Any, web: str) -> None:
    process = subprocess.Popen(["docker", "exec", "web", "yes"], env=stack.environ, stdout=subprocess.PIPE)
    try:
        until(lambda: stack.out("inspect", "-f", "{{json .ExecIDs}}", "web") != "null")
        (exec_id,) = json.loads(stack.out("inspect", "-f", "{{json .ExecIDs}}", "web"))
        until(lambda: inspect(stack, exec_id)["Running"])
        time.sleep(0.5)  # what is between us and `yes` fills up
        began = time.monotonic()
        stack.docker("kill", "web")
        assert time.monotonic() - began < 5
        until(lambda: not inspect(stack, exec_id)["Running"])
        assert inspect(stack, exec_id)["ExitCode"] == 137
    finally:
        process.kill()
        process.communicate()


def test_the_jobs_by_hand(stack: Any, web: str) -> None:
    settings = ['--env=Cmd=["sh","-c","cat; echo err >&2"]', "--env=AttachStdin=true"]
    exec_id = stack.dockyard("job", "execCreate", "web", *settings).stdout.strip()
    ran = stack.dockyard("job", "execStart", exec_id, input="typed\n")
    assert (ran.stdout, ran.stderr) == ("typed\n", "err\n")
    assert stack.dockyard("job", "exec_wait", exec_id).stdout.strip() == "0"
    assert json.loads(stack.dockyard("job", "exec_inspect", exec_id).stdout)["ExitCode"] == 0


def test_many_at_once(stack: Any, web: str) -> None:
    results: dict[int, Any] = {}

    def run(number: int) -> None:
        results[number] = stack.docker("exec", "web", "sh", "-c", f"echo {number}; exit {number}", check=False)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {n: (r.returncode, r.stdout) for n, r in results.items()} == {n: (n, f"{n}\n") for n in range(20)}
    until(lambda: not list((stack.run / "execs").iterdir()))


def test_a_session_survives_all_but_its_own_worker(stack: Any, web: str) -> None:
    process = subprocess.Popen(
        ["docker", "exec", "-i", "web", "sh", "-c", "while read x; do echo got $x; done; exit 3"],
        env=stack.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for service in ("engine", "execdriver"):
            process.stdin.write(f"{service}\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"got {service}\n"
            kill_and_await(stack, service)
        process.stdin.write("last\n")
        process.stdin.close()
        assert process.stdout.read() == "got last\n"
        assert process.wait(30) == 3
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("service", ["engine", "execdriver", "apiserver"])
def test_a_killed_process_does_not_end_an_exec(stack: Any, web: str, service: str) -> None:
    exec_id = create(stack, "sh", "-c", "sleep 1; echo on > /on; exit 9")
    assert api(stack, "POST", f"/exec/{exec_id}/start", {"Detach": True}) == (200, b"")
    kill_and_await(stack, service)
    until(lambda: stack.docker("ps", check=False).returncode == 0)
    assert inspect(stack, exec_id)["ContainerID"] == web
    until(lambda: not inspect(stack, exec_id)["Running"])
    assert inspect(stack, exec_id)["ExitCode"] == 9
    assert stack.out("exec", "web", "cat", "/on") == "on"


@pytest.mark.parametrize("service", ["engine", "execdriver"])
def test_a_start_survives_what_it_passes_through(stack: Any, web: str, service: str) -> None:
    """A process is killed ever later in the course of a start; the client has all of the output, once."""
    for step in range(6):
        exec_id = create(stack, "sh", "-c", "echo once >> /ran; echo output; exit 3")
        answers: list[tuple[int, Any]] = []
        starting = threading.Thread(
            target=lambda exec_id=exec_id, answers=answers: answers.append(
                api(stack, "POST", f"/exec/{exec_id}/start", {"Tty": True})
            )
        )
        starting.start()
        time.sleep(0.002 + step * 0.004)
        kill(stack.pids(service))
        starting.join(30)
        (status, output), ended = answers[0], inspect(stack, exec_id)
        assert (status, ended["Running"], ended["ExitCode"]) == (200, False, 3), step
        assert b"output\n" in output, step
        assert stack.out("exec", "web", "cat", "/ran") == "\n".join(["once"] * (step + 1))
