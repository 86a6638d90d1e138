"""docker run."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.integration.terminal import Terminal

pytestmark = pytest.mark.root


def test_run_prints_and_leaves_nothing(stack: Any) -> None:
    assert stack.docker("run", "--rm", "busybox", "echo", "hi").stdout == "hi\n"
    assert stack.out("ps", "-aq") == ""


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["busybox", "sh", "-c", "exit 7"], 7),
        (["busybox", "true"], 0),
        (["busybox", "nonesuch"], 127),
        (["busybox", "/bin/nonesuch"], 127),
        (["busybox", "/etc"], 126),
        (["busybox", "/etc/passwd"], 126),
        (["busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137),
        (["no-such-image", "true"], 125),
        (["--network", "no-such-network", "busybox", "true"], 125),
        (["--volumes-from", "x", "busybox", "true"], 125),
    ],
)
def test_exit_codes_are_exact(stack: Any, args: list[str], code: int) -> None:
    assert stack.docker("run", "--rm", *args, check=False).returncode == code
    assert stack.out("ps", "-aq") == ""


def test_stdout_and_stderr_are_apart(stack: Any) -> None:
    result = stack.docker("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2")
    assert (result.stdout, result.stderr) == ("out\n", "err\n")


def test_stdin_is_piped_and_half_closed(stack: Any) -> None:
    data = "".join(f"line {n}\n" for n in range(20_000))
    result = stack.docker("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo end", input=data)
    assert result.stdout == data + "end\n"


def test_input_that_nobody_reads_does_not_cost_output(stack: Any) -> None:
    for _ in range(5):
        result = stack.docker("run", "--rm", "-i", "busybox", "head", "-n", "1", input="line\n" * 200_000)
        assert (result.returncode, result.stdout) == (0, "line\n")


def test_large_output_comes_whole(stack: Any) -> None:
    result = stack.docker("run", "--rm", "busybox", "sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' x")
    assert len(result.stdout) == 20_000_000


def test_the_sandbox_is_on_by_default(stack: Any) -> None:
    status = stack.out("run", "--rm", "busybox", "grep", "-E", "CapEff|Seccomp:", "/proc/self/status")
    assert "CapEff:\t00000000a80425fb" in status
    assert "Seccomp:\t2" in status
    assert stack.docker("run", "--rm", "busybox", "unshare", "-m", "true", check=False).returncode != 0
    assert stack.docker("run", "--rm", "--privileged", "busybox", "unshare", "-m", "true").returncode == 0


def test_a_memory_limit_ends_in_137_and_oom(stack: Any) -> None:
    stack.docker(
        "run", "--name", "hungry", "-m", "16m", "busybox", "sh", "-c", "head -c 200m /dev/zero | tail", check=False
    )
    assert stack.out("inspect", "-f", "{{.State.OOMKilled}}", "hungry") == "true"


def test_a_terminal(stack: Any) -> None:
    with Terminal(stack, "run", "--rm", "-it", "busybox", "sh", size=(33, 77)) as terminal:
        terminal.read_until(b"# ")
        terminal.type(b"tty; echo $((6 * 7)); stty size\n")
        for text in (b"/dev/pts/0", b"42", b"33 77"):
            terminal.read_until(text)
        terminal.type(b"exit 5\n")
        assert terminal.wait() == 5


def test_detached_it_prints_its_id(stack: Any, tmp_path: Path) -> None:
    cidfile = tmp_path / "cid"
    container = stack.out("run", "-d", "--name", "web", "--cidfile", str(cidfile), "busybox", "sleep", "1000")
    assert re.fullmatch("[0-9a-f]{64}", container)
    assert cidfile.read_text() == container
    again = stack.docker("run", "-d", "--name", "web", "busybox", "true", check=False)
    assert again.returncode == 125
    assert again.stderr.splitlines()[0] == (
        'docker: Error response from daemon: Conflict. The container name "/web" is already in use by container '
        f'"{container}". You have to remove (or rename) that container to be able to reuse that name.'
    )


def test_signals_are_proxied(stack: Any) -> None:
    script = "trap 'exit 9' USR1; echo up; while :; do sleep 0.05; done"
    with subprocess.Popen(
        ["docker", "run", "--rm", "busybox", "sh", "-c", script], env=stack.environ, stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"up\n"
        running.send_signal(signal.SIGUSR1)
        assert running.wait(20) == 9


def test_rm_removes_anonymous_volumes_and_keeps_named_ones(stack: Any) -> None:
    stack.docker("run", "--rm", "-v", "/anonymous", "-v", "named:/named", "busybox", "true")
    assert stack.out("volume", "ls", "-q") == "named"


def test_only_the_streams_that_are_attached(stack: Any) -> None:
    command = ["busybox", "sh", "-c", "echo out; echo err >&2"]
    out = stack.docker("run", "--rm", "-a", "stdout", *command)
    assert (out.stdout, out.stderr) == ("out\n", "")
    err = stack.docker("run", "--rm", "-a", "stderr", *command)
    assert (err.stdout, err.stderr) == ("", "err\n")


def test_what_programs_look_for_in_a_container(stack: Any) -> None:
    script = "test -f /.dockerenv && grep -c ' / overlay' /etc/mtab; stat -c %u /made"
    assert stack.out("run", "--name", "marked", "-u", "5", "-w", "/made", "busybox", "sh", "-c", script) == "1\n0"
    assert stack.out("diff", "marked").split("\n") == ["A /made"]
