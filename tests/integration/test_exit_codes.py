"""Exit codes of `docker run`, `exec` and `start -a`, with the words that explain them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.conftest import Stack

pytestmark = pytest.mark.root

NOWHERE = 'exec: "/nope": stat /nope: no such file or directory: unknown'
CHDIR = 'chdir to cwd ("{}") set in config.json failed: {}'
INIT = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: error during container init: "
)

RUN: dict[str, tuple[list[str], int, str]] = {
    "its own": (["busybox", "sh", "-c", "exit 42"], 42, ""),
    "its own, the largest": (["busybox", "sh", "-c", "exit 255"], 255, ""),
    "not in PATH": (["busybox", "nope"], 127, INIT + 'exec: "nope": executable file not found in $PATH: unknown'),
    "not there": (["busybox", "/nope"], 127, INIT + NOWHERE),
    "an entrypoint that is not there": (
        ["--entrypoint", "/nope", "busybox"], 127, INIT + NOWHERE,
    ),
    "not executable": (["busybox", "/etc/passwd"], 126, INIT + 'exec: "/etc/passwd": permission denied: unknown'),
    "a directory": (["busybox", "/etc"], 126, INIT + 'exec: "/etc": is a directory: permission denied: unknown'),
    "a working directory that is a file": (
        ["-w", "/etc/passwd", "busybox", "true"], 125, "Cannot mkdir: /etc/passwd is not a directory",
    ),
    "a relative working directory": (["-w", "a", "busybox", "true"], 125, "it needs to be an absolute path"),
    "a working directory that cannot be": (
        ["-w", "/proc/sys/nope", "busybox", "true"], 127, "no such file or directory: unknown",
    ),
    "no such user": (
        ["-u", "nope", "busybox", "true"], 125, "unable to find user nope: no matching entries in passwd file",
    ),
    "no such group": (
        ["-u", "0:nope", "busybox", "true"], 125, "unable to find group nope: no matching entries in group file",
    ),
    "no such source of a mount": (
        ["--mount", "type=bind,src=/nope,dst=/x", "busybox", "true"], 125,
        'invalid mount config for type "bind": bind source path does not exist: /nope',
    ),
    "a relative target of a mount": (["-v", "/tmp:a", "busybox", "true"], 125, "mount path must be absolute"),
    "a file onto a directory": (
        ["-v", "/etc/hostname:/etc", "busybox", "true"], 125, "Are you trying to mount a directory onto a file",
    ),
    "a directory onto a file": (
        ["-v", "/etc:/etc/passwd", "busybox", "true"], 125, "Are you trying to mount a directory onto a file",
    ),
    "a name in use": (["--name", "there", "busybox", "true"], 125, 'The container name "/there" is already in use by'),
    "a flag that is none": (["--nope", "busybox"], 125, "unknown flag: --nope"),
    "no such network": (["--network", "nope", "busybox", "true"], 125, "network nope not found"),
    "too little memory": (["-m", "1k", "busybox", "true"], 125, "Minimum memory limit allowed is 6MB"),
    "no command": (["--entrypoint", "", "busybox"], 125, "no command specified"),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def there(shared_stack: Stack) -> Iterator[None]:
    shared_stack.docker("run", "-d", "--name", "there", "busybox", "sleep", "600")
    yield
    shared_stack.docker("rm", "-f", "there")


@pytest.mark.parametrize("name", RUN)
def test_run(shared_stack: Stack, name: str) -> None:
    command, code, text = RUN[name]
    result = shared_stack.docker("run", "--rm", *command, check=False)
    assert (result.returncode, text in result.stderr) == (code, True), (result.returncode, result.stderr)
    assert shared_stack.out("ps", "-a", "--format", "{{.Names}}") == "there"  # --rm holds for what did not start, too


EXEC: dict[str, tuple[list[str], int, str]] = {
    "its own": (["there", "sh", "-c", "exit 42"], 42, ""),
    "not in PATH": (["there", "nope"], 127, 'exec: "nope": executable file not found in $PATH: unknown'),
    "not there": (["there", "/nope"], 127, "no such file or directory: unknown"),
    "no name": (["there", ""], 127, 'exec: "": executable file not found in $PATH: unknown'),
    "not executable": (["there", "/etc/passwd"], 126, 'exec: "/etc/passwd": permission denied: unknown'),
    "a directory": (["there", "/etc"], 126, 'exec: "/etc": is a directory: permission denied: unknown'),
    "a working directory that is not there": (
        ["-w", "/nope", "there", "true"], 127, CHDIR.format("/nope", "no such file or directory"),
    ),
    "a working directory that is a file": (
        ["-w", "/etc/passwd", "there", "true"], 126, CHDIR.format("/etc/passwd", "not a directory"),
    ),
    "no such user": (["-u", "nope", "there", "true"], 126, "unable to find user nope: no matching entries in passwd"),
    "in the background": (["-d", "there", "nope"], 1, "executable file not found in $PATH"),
}  # fmt: skip


@pytest.mark.parametrize("name", EXEC)
def test_exec(shared_stack: Stack, name: str) -> None:
    command, code, text = EXEC[name]
    result = shared_stack.docker("exec", *command, check=False)
    assert result.returncode == code, result
    assert text in result.stderr + result.stdout, result


def test_an_exec_in_no_container(shared_stack: Stack) -> None:
    result = shared_stack.docker("exec", "nope", "true", check=False)
    assert result.returncode == 1
    assert shared_stack.missing("container", "nope", "No such container: nope") in result.stderr


FATAL = [number for number in range(1, 32) if number not in (
    signal.SIGCHLD, signal.SIGCONT, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGURG,
    signal.SIGWINCH,
)]  # fmt: skip


def dying(number: int) -> list[str]:
    """Return a command that dies of a signal: a shell, but for SIGQUIT, which busybox's shell ignores."""
    return ["timeout", "-s", "3", "1", "sleep", "9"] if number == signal.SIGQUIT else ["sh", "-c", f"kill -{number} $$"]


def test_each_signal_is_128_and_its_number(shared_stack: Stack) -> None:
    """An exec dies of it; the first process of a PID namespace would not."""
    for number in FATAL:
        result = shared_stack.docker("exec", "there", *dying(number), check=False)
        assert result.returncode == 128 + number, signal.Signals(number).name


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 11, 15])
def test_a_container_that_dies_of_a_signal(shared_stack: Stack, number: int) -> None:
    options = ["--name", "dies", "--pid", "host", "busybox"]
    result = shared_stack.docker("run", *options, *dying(number), check=False)
    try:
        assert result.returncode == 128 + number
        shown = "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}"
        assert shared_stack.out("inspect", "-f", shown, "dies") == f"exited {128 + number} false"
        assert shared_stack.docker("start", "-a", "dies", check=False).returncode == 128 + number
        assert shared_stack.out("wait", "dies") == str(128 + number)
    finally:
        shared_stack.docker("rm", "-f", "dies")


def test_out_of_memory(shared_stack: Stack) -> None:
    script = "a=xxxxxxxxxxxxxxxx; while :; do a=$a$a; done"
    options = ["--name", "oom", "-m", "20m", "--memory-swap", "20m"]
    result = shared_stack.docker("run", *options, "busybox", "sh", "-c", script, check=False)
    try:
        assert result.returncode == 137
        assert shared_stack.out("inspect", "-f", "{{.State.ExitCode}} {{.State.OOMKilled}}", "oom") == "137 true"
    finally:
        shared_stack.docker("rm", "-f", "oom")


@pytest.mark.parametrize(
    ("command", "code"), [(["nope"], 127), (["/nope"], 127), (["/etc"], 126), (["/etc/passwd"], 126)]
)
def test_what_did_not_start_is_shown(shared_stack: Stack, command: list[str], code: int) -> None:
    """It stays `created`, as moby leaves it, with the code and the reason; the CLI's own status of `start` is 1."""
    shared_stack.docker("create", "--name", "not-started", "busybox", *command)
    try:
        for options in ([], ["-a"]):
            result = shared_stack.docker("start", *options, "not-started", check=False)
            assert result.returncode == 1
        shown: Any = shared_stack.out(
            "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", "not-started"
        )
        status, found, reason = shown.split(" ", 2)
        assert (status, int(found)) == ("created", code)
        assert reason in result.stderr
    finally:
        shared_stack.docker("rm", "-f", "not-started")


def test_start_attached_ends_as_its_container(shared_stack: Stack) -> None:
    shared_stack.docker("create", "--name", "ends", "busybox", "sh", "-c", "echo here; exit 42")
    try:
        result = shared_stack.docker("start", "-a", "ends", check=False)
        assert (result.returncode, result.stdout) == (42, "here\n")
    finally:
        shared_stack.docker("rm", "-f", "ends")
