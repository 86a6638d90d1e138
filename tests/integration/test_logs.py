"""`docker logs`, log drivers and their options, rotation, by the docker command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Stack, until

COUNT = "i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); done"
PACED = "i=0; while [ $i -lt %d ]; do echo line $i; i=$((i+1)); [ $((i %% 100)) -ne 0 ] || usleep 10000; done"
SMALL = ("--log-opt", "max-size=50k", "--log-opt", "max-file=1000")


def counted(number: int) -> list[str]:
    return [f"line {n}" for n in range(number)]


def finished(stack: Stack, name: str) -> bool:
    return stack.out("inspect", "-f", "{{.State.Status}}", name) == "exited"


def follow(stack: Stack, *arguments: str) -> Callable[[], list[str]]:
    """Start `docker logs -f`; what is returned waits for its end and returns the lines."""
    found: list[list[str]] = []
    thread = threading.Thread(
        target=lambda: found.append(stack.docker("logs", "-f", *arguments, timeout=120).stdout.splitlines()),
        daemon=True,
    )
    thread.start()

    def result() -> list[str]:
        thread.join(120)
        assert found, "the follower has not ended"
        return found[0]

    return result


def files_of(stack: Stack, name: str) -> list[Path]:
    container = stack.out("inspect", "-f", "{{.Id}}", name)
    return sorted((stack.root / "containers" / container).glob("container.log*"))


def test_streams_tails_times_and_details(stack: Stack) -> None:
    script = "for i in 1 2 3; do echo out $i; done; sleep 1.1; echo problem >&2; sleep 0.2; echo last"
    stack.docker(
        "run", "--name", "web", "-e", "COLOUR=light blue", "--label", "a.b=1", "--log-opt", "env=COLOUR",
        "--log-opt", "labels-regex=^a", "--log-opt", "tag={{.Name}}", "busybox", "sh", "-c", script,
    )  # fmt: skip
    result = stack.docker("logs", "web")
    assert (result.stdout, result.stderr) == ("out 1\nout 2\nout 3\nlast\n", "problem\n")
    assert stack.docker("logs", "--tail", "2", "web").stdout == "last\n"
    assert stack.docker("logs", "--tail", "0", "web").stdout == ""
    assert stack.docker("logs", "--tail", "all", "web").stdout == result.stdout
    stamped = stack.docker("logs", "-t", "web").stdout.splitlines()
    assert [re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (.*)", line)[1] for line in stamped] == [  # type: ignore[index]
        "out 1", "out 2", "out 3", "last",
    ]  # fmt: skip
    first, last = stamped[0].split()[0], stamped[-1].split()[0]
    assert stack.docker("logs", "--since", last, "web").stdout == "last\n"
    assert stack.docker("logs", "--since", first, "web").stdout == result.stdout
    assert "last" not in stack.docker("logs", "--until", first, "web").stdout
    assert stack.docker("logs", "--since", "10m", "--until", str(time.time()), "web").stdout == result.stdout
    assert stack.docker("logs", "--since", "1700000000.5", "web").stdout == result.stdout
    assert stack.docker("logs", "--details", "--tail", "1", "web").stdout == "COLOUR=light+blue,a.b=1,tag=web last\n"
    said = stack.missing("container", "nonesuch", "No such container: nonesuch")
    assert stack.docker("logs", "nonesuch", check=False).stderr == f"{said}\n"


def test_a_terminals_log_is_raw(stack: Stack) -> None:
    stack.docker("run", "-t", "--name", "web", "busybox", "echo", "raw")
    assert (
        subprocess.run(["docker", "logs", "web"], env=stack.environ, capture_output=True, check=True).stdout
        == b"raw\r\n"
    )


def test_of_containers_created_stopped_and_started_again(stack: Stack) -> None:
    stack.docker("create", "--name", "web", "busybox", "echo", "once more")
    assert stack.docker("logs", "-f", "web").stdout == ""
    assert stack.out("inspect", "-f", "{{.LogPath}}", "web") == ""
    for count in (1, 2):
        stack.docker("start", "-a", "web")
        assert stack.docker("logs", "-f", "web").stdout == "once more\n" * count
    assert Path(stack.out("inspect", "-f", "{{.LogPath}}", "web")).is_file()
    container = stack.out("inspect", "-f", "{{.Id}}", "web")
    stack.docker("rm", "web")
    assert not (stack.root / "containers" / container).exists()


def test_following_ends_with_the_container_and_with_its_time(stack: Stack) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", "echo begin; sleep 3; printf end")
    assert stack.docker("logs", "-f", "--until", str(time.time() + 1), "web").stdout == "begin\n"
    assert stack.docker("logs", "-f", "--tail", "0", "web").stdout == "end"
    assert stack.docker("logs", "-f", "web").stdout == "begin\nend"


def test_following_ends_at_a_restart(stack: Stack) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", "echo begin; exec sleep 1000")
    result = follow(stack, "web")
    stack.docker("restart", "-t", "0", "web")
    assert result()[:1] == ["begin"]
    assert finished(stack, "web") is False


def test_rotation_under_load_with_its_driver_killed_again_and_again(stack: Stack) -> None:
    number = 60_000
    stack.docker("run", "-d", "--name", "web", *SMALL, "busybox", "sh", "-c", PACED % number)
    followed = follow(stack, "web")
    parts = killed = 0
    while not finished(stack, "web"):
        # when it has begun to rotate; a stack bears ten deaths in a minute, and other tests here kill too
        if len(files_of(stack, "web")) > parts and killed < 6:
            time.sleep(0.001 * killed)
            for pid in stack.pids("execdriver"):
                os.kill(pid, signal.SIGKILL)
                killed += 1
            parts = len(files_of(stack, "web"))
    assert killed > 2
    assert followed() == counted(number)
    assert stack.docker("logs", "web").stdout.splitlines() == counted(number)
    assert len(files_of(stack, "web")) > 4
    stack.docker("logs", "--tail", "5", "web")


def test_a_follower_does_not_notice_that_the_engine_is_killed(stack: Stack) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", PACED % 20_000)
    followed = follow(stack, "web")
    for service in ("engine", "reader", "execdriver"):
        for pid in stack.pids(service):
            os.kill(pid, signal.SIGKILL)
    assert followed() == counted(20_000)


def test_few_files_are_kept_and_the_older_ones_compressed(stack: Stack) -> None:
    options = ("--log-driver", "local", "--log-opt", "max-size=50k", "--log-opt", "max-file=4")
    stack.docker("run", "-d", "--name", "web", *options, "busybox", "sh", "-c", PACED % 20_000)
    followed = follow(stack, "web")
    until(lambda: any(path.suffix == ".gz" for path in files_of(stack, "web")), 30)
    until(lambda: finished(stack, "web"), 60)
    assert followed() == counted(20_000)
    kept = stack.docker("logs", "web").stdout.splitlines()
    assert kept == counted(20_000)[-len(kept) :]
    assert (
        len([path for path in files_of(stack, "web") if re.search(r"\d(\.gz)?$", path.name) and path.stat().st_size])
        <= 4
    )
    assert stack.out("inspect", "-f", "{{.LogPath}}", "web") == ""


def test_a_client_that_does_not_read_holds_nothing_up(stack: Stack) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", COUNT % 100_000 + "; read x")
    reader = subprocess.Popen(["docker", "logs", "-f", "web"], env=stack.environ, stdout=subprocess.PIPE)
    stack.docker("run", "-d", "--name", "api", "busybox", "sh", "-c", COUNT % 300_000)
    stalled = subprocess.Popen(["docker", "logs", "-f", "api"], env=stack.environ, stdout=subprocess.PIPE)
    try:
        until(lambda: finished(stack, "api"), 30)
        assert stack.out("run", "--rm", "busybox", "echo", "meanwhile") == "meanwhile"
    finally:
        for process in (reader, stalled):
            process.kill()
            process.communicate()


def test_logs_are_read_while_engine_and_execdriver_stand_still(stack: Stack) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", "echo here; exec sleep 1000")
    until(lambda: stack.out("logs", "web") == "here")
    still = [pid for service in ("engine", "execdriver") for pid in stack.pids(service)]
    for pid in still:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert stack.out("logs", "web") == "here"
    finally:
        for pid in still:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--log-driver", "nonesuch"], "logger: no log driver named 'nonesuch' is registered"),
        (["--log-opt", "colour=red"], "unknown log opt 'colour' for json-file log driver"),
        (["--log-driver", "local", "--log-opt", "labels=a"], "unknown log opt 'labels' for log driver local"),
        (["--log-opt", "max-size=10q"], "invalid size: '10q'"),
        (["--log-opt", "max-size=-1"], "invalid size: '-1'"),
        (["--log-opt", "max-size=0"], "max-size must be a positive number"),
        (["--log-opt", "max-file=0"], "max-file cannot be less than 1"),
        (["--log-opt", "max-file=x"], 'strconv.Atoi: parsing "x": invalid syntax'),
        (["--log-opt", "compress=maybe"], 'strconv.ParseBool: parsing "maybe": invalid syntax'),
        (["--log-opt", "mode=fast"], "logger: logging mode not supported: fast"),
        (
            ["--log-opt", "max-buffer-size=4m"],
            "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
        ),
        (["--log-opt", "tag={{.Nonesuch}}"], "log opt 'tag': {{.Nonesuch}} is not implemented"),
    ],
)
def test_what_cannot_be_is_refused_in_dockers_words(stack: Stack, options: list[str], error: str) -> None:
    result = stack.docker("create", *options, "busybox", check=False)
    assert result.returncode == 1
    assert result.stderr.startswith(f"Error response from daemon: {error}")


def test_non_blocking_mode_loses_nothing_and_says_so(stack: Stack) -> None:
    options = ["--log-opt", "mode=non-blocking", "--log-opt", "max-buffer-size=1k"]
    made = stack.docker("create", "--name", "much", *options, "busybox", "seq", "20000")
    assert "log opt 'mode=non-blocking': output goes to the page cache as it comes, and" in made.stderr
    stack.docker("start", "-a", "much")
    assert stack.out("logs", "much").split() == [str(number) for number in range(1, 20001)]


@pytest.mark.skipif(Path("/run/systemd/journal/socket").exists(), reason="this host has a journal")
def test_without_a_journal_there_is_no_journald(stack: Stack) -> None:
    result = stack.docker("create", "--log-driver", "journald", "busybox", check=False)
    assert result.stderr == "Error response from daemon: journald is not enabled on this host\n"


def test_none_cannot_be_read(stack: Stack) -> None:
    assert stack.out("run", "--name", "web", "--log-driver", "none", "busybox", "echo", "shown") == "shown"
    result = stack.docker("logs", "web", check=False)
    assert result.stderr == "Error response from daemon: configured logging driver does not support reading\n"
    assert files_of(stack, "web") == []
    assert (
        stack.out("inspect", "-f", "{{.LogPath}} {{json .HostConfig.LogConfig}}", "web")
        == '{"Type":"none","Config":{}}'
    )


def test_what_is_told_of_it(stack: Stack) -> None:
    stack.docker("create", "--name", "web", "--log-opt", "max-size=1m", "busybox")
    shown = json.loads(stack.out("inspect", "-f", "{{json .HostConfig.LogConfig}}", "web"))
    assert shown == {"Type": "json-file", "Config": {"max-size": "1m"}}
    info = json.loads(stack.out("info", "-f", "{{json .}}"))
    assert info["LoggingDriver"] == "json-file"
    assert {"json-file", "local"} <= set(info["Plugins"]["Log"])


def test_defaults_are_settings(new_stack: Callable[..., Any]) -> None:
    stack = new_stack(DOCKYARD_LOG_DRIVER="local", DOCKYARD_LOG_OPTS="max-size=1m,max-file=3").start()
    stack.dockyard("busybox")
    assert stack.out("info", "-f", "{{.LoggingDriver}}") == "local"
    own = {"other": ["--log-driver", "json-file"], "own": ["--log-opt", "max-file=2"], "default": []}
    for name, options in own.items():
        stack.docker("create", "--name", name, *options, "busybox")
    found = {name: json.loads(stack.out("inspect", "-f", "{{json .HostConfig.LogConfig}}", name)) for name in own}
    assert found["default"] == {"Type": "local", "Config": {"max-size": "1m", "max-file": "3"}}
    assert found["own"] == {"Type": "local", "Config": {"max-size": "1m", "max-file": "2"}}
    assert found["other"] == {"Type": "json-file", "Config": {}}
