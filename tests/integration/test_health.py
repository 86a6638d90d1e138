"""Health checks: what probes find, how it shows, and that nothing of ours need be alive for it to be kept."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import command_line, descendants, until

pytestmark = pytest.mark.root

QUICK = ("--health-interval", "200ms", "--health-retries", "2", "--health-timeout", "1s")


def run(stack: Any, command: str, *options: str, name: str = "web") -> None:
    stack.docker("run", "-d", "--name", name, "--health-cmd", command, *QUICK, *options, "busybox", "sleep", "1d")


def health(stack: Any, name: str = "web") -> Any:
    return json.loads(stack.out("inspect", "-f", "{{json .State}}", name)).get("Health")


def status(stack: Any, name: str = "web") -> str:
    return str(health(stack, name)["Status"])


def probers(stack: Any) -> list[int]:
    return [pid for pid in descendants(stack.process.pid) if "execdriver/prober.py" in command_line(pid)]


def test_it_starts_fails_and_recovers(stack: Any) -> None:
    since = str(time.time())
    run(stack, "echo said; test -e /ok")
    until(lambda: status(stack) == "unhealthy")
    assert "(unhealthy)" in stack.out("ps", "--format", "{{.Status}}")
    assert stack.out("ps", "--filter", "health=unhealthy", "--format", "{{.Names}}") == "web"
    assert stack.out("ps", "--filter", "health=healthy", "-q") == ""
    stack.docker("exec", "web", "touch", "/ok")
    until(lambda: status(stack) == "healthy")
    until(lambda: len(health(stack)["Log"]) == 5 and health(stack)["Log"][-1]["ExitCode"] == 0)
    found = health(stack)
    assert found["FailingStreak"] == 0
    assert {entry["Output"] for entry in found["Log"]} == {"said\n"}
    assert "(healthy)" in stack.out("ps", "--format", "{{.Status}}")
    events = stack.out("events", "--since", since, "--until", str(time.time()), "--filter", "event=health_status",
                       "--format", "{{.Action}}")  # fmt: skip
    assert events.splitlines() == ["health_status: unhealthy", "health_status: healthy"]
    kinds = [option for kind in ("create", "start", "die") for option in ("--filter", f"event=exec_{kind}")]
    told = stack.out("events", "--since", since, "--until", str(time.time()), *kinds, "--format", "{{json .}}")
    probes = [json.loads(line) for line in told.splitlines()]
    execs = [probe["Actor"]["Attributes"]["execID"] for probe in probes]
    first = [probe for probe, of in zip(probes, execs, strict=True) if of == execs[0]]
    command = "/bin/sh -c echo said; test -e /ok"
    assert [probe["Action"] for probe in first] == [f"exec_create: {command}", f"exec_start: {command}", "exec_die"]
    assert first[-1]["Actor"]["Attributes"]["exitCode"] == "1"
    stack.docker("stop", "-t", "0", "web")
    assert status(stack) == "unhealthy"
    assert "healthy" not in stack.out("ps", "-a", "--format", "{{.Status}}")


def test_without_a_check_there_is_no_health(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sleep", "1d")
    stack.docker("run", "-d", "--name", "none", "--no-healthcheck", "busybox", "sleep", "1d")
    assert health(stack, "web") is None
    assert health(stack, "none") is None
    assert stack.out("ps", "--filter", "health=none", "--format", "{{.Names}}").split() == ["none", "web"]


def test_a_start_period_forgives_and_starting_is_shown(stack: Any) -> None:
    stack.needs(25, "--health-start-interval")
    run(stack, "false", "--health-start-period", "60s", "--health-start-interval", "100ms")
    until(lambda: len(health(stack)["Log"]) == 5)
    assert (status(stack), health(stack)["FailingStreak"]) == ("starting", 0)
    assert "(health: starting)" in stack.out("ps", "--format", "{{.Status}}")


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("sleep 10", "Health check exceeded timeout (1s)"),
        ("yes | head -c 9999; exit 1", "y\n" * 2048 + "..."),
    ],
)
def test_a_probe_that_takes_too_long_or_says_too_much(stack: Any, command: str, output: str) -> None:
    run(stack, command)
    until(lambda: health(stack)["Log"])
    assert health(stack)["Log"][0]["Output"] == output


def test_a_command_that_is_not_there(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "web", "--health-cmd", "nonesuch", *QUICK, "busybox", "sleep", "1d")
    until(lambda: health(stack)["Log"])
    assert health(stack)["Log"][0]["ExitCode"] == 127  # the shell says so


def test_a_probe_has_the_sandbox_of_an_exec(stack: Any) -> None:
    facts = (
        "grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups|Umask)' /proc/self/status; cat /proc/self/cgroup; "
        "ulimit -n; pwd; env | sort; ls /proc/self/fd"
    )
    for name, options in {
        "web": (),
        "user": ("-u", "nobody", "-w", "/tmp", "--security-opt", "no-new-privileges", "--cap-drop", "CHOWN"),
        "limits": ("--ulimit", "nofile=77:77", "--security-opt", "seccomp=unconfined", "-e", "A=b"),
        "privileged": ("--privileged",),
    }.items():
        run(stack, facts, *options, name=name)
        until(lambda name=name: health(stack, name)["Log"])
        probed = health(stack, name)["Log"][0]["Output"]
        executed = stack.docker("exec", name, "sh", "-c", facts).stdout
        ignored = ("SHLVL", "PWD", "OLDPWD")
        keep = [line for line in probed.splitlines() if not line.startswith(ignored)]
        assert keep == [line for line in executed.splitlines() if not line.startswith(ignored)], name


def test_health_outlives_what_looks_after_it(stack: Any) -> None:
    run(stack, "test -e /ok || exit 1")
    until(lambda: status(stack) == "unhealthy")
    for service in ("engine", "execdriver"):
        before = set(stack.pids(service))
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        assert (health(stack)["Status"], bool(health(stack)["Log"])) == ("unhealthy", True)
        until(lambda service=service, before=before: set(stack.pids(service)) - before)
        assert status(stack) == "unhealthy"
    stack.docker("exec", "web", "touch", "/ok")
    until(lambda: status(stack) == "healthy")
    (prober,) = probers(stack)
    os.kill(prober, signal.SIGKILL)
    stack.docker("exec", "web", "rm", "/ok")
    until(lambda: status(stack) == "unhealthy")
    assert probers(stack) != [prober]


def test_probes_go_on_while_the_engine_is_away(stack: Any) -> None:
    run(stack, "echo x >> /probes; test -e /ok")
    until(lambda: status(stack) == "unhealthy")
    (engine,) = stack.pids("engine")
    os.kill(engine, signal.SIGSTOP)
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if "overlay" in line]
    (root,) = {Path(mount) for mount in mounts if mount.startswith(str(stack.directory))}

    def probes_made() -> int:
        return len((root / "probes").read_text().split())

    before = probes_made()
    try:
        until(lambda: probes_made() > before + 3)
        (root / "ok").touch()
        time.sleep(0.5)
    finally:
        os.kill(engine, signal.SIGCONT)
    until(lambda: status(stack) == "healthy")


@pytest.mark.parametrize(
    ("option", "text"),
    [
        (("--health-interval", "1us"), "Interval in Healthcheck cannot be less than 1ms"),
        (("--health-timeout", "1us"), "Timeout in Healthcheck cannot be less than 1ms"),
    ],
)
def test_what_makes_no_sense_is_refused(stack: Any, option: tuple[str, str], text: str) -> None:
    refused = stack.docker("create", "--health-cmd", "true", *option, "busybox", check=False)
    assert refused.returncode == 1
    assert text in refused.stderr
