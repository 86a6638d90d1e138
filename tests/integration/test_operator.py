"""The operator's view, on a real stack: who does what, what it waits for, and how to end it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import DOCKYARD, until

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
]


def jobs(stack: Any, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(stack.dockyard("jobs", "--json", *options).stdout)
    return found


def asked_by(stack: Any, pid: int) -> list[str]:
    """Return the ids of the jobs under way that a `dockyard` has asked for."""
    return [job["id"] for job in jobs(stack, "--running") if job["caller"] == f"ctl[{pid}]"]


@pytest.fixture
def waiting(stack: Any) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Run `dockyard job wait web` and return when the wait is in force."""
    stack.docker("run", "-d", "--name", "web", "busybox", "sleep", "300")
    made: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        command = [DOCKYARD, "job", "wait", "web", *options]
        made.append(
            subprocess.Popen(command, env=stack.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        until(lambda: asked_by(stack, made[-1].pid))
        return made[-1]

    yield start
    for process in made:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_a_docker_run_is_a_tree_of_jobs_and_a_time_line(stack: Any) -> None:
    stack.docker("run", "--rm", "busybox", "true")
    start = next(job for job in jobs(stack) if job["name"] == "start")
    header, *lines = stack.dockyard("jobs").stdout.splitlines()
    assert header.split() == ["ID", "JOB", "BY", "IN", "START", "TOOK", "STATUS"]
    index = next(n for n, line in enumerate(lines) if line.startswith(start["id"]))
    assert [line[34:36] for line in lines[index + 1 : index + 4]] == ["└ "] * 3
    about, header, first, *others = stack.dockyard("trace", start["id"][:10]).stdout.splitlines()
    assert about.startswith(f"{start['id']} at ")
    assert "apiserver[" in about
    assert header.split() == ["OFFSET", "TOOK", "JOB", "IN", "STATUS", "TIME", "LINE"]
    assert first.startswith("+0us")
    assert first.endswith("█" * 40)
    assert {"graphdriver", "netdriver", "execdriver"} <= {word for line in others for word in line.split()}


def test_an_id_that_is_unknown_or_ambiguous_is_one_line_and_1(stack: Any) -> None:
    def several() -> str | None:
        first = [job["id"][0] for job in jobs(stack, "--limit", "1000")]
        return next((digit for digit in first if first.count(digit) > 1), None)

    stack.docker("run", "--rm", "busybox", "true")
    shared = until(several)
    for prefix, text in (("zebra", "no job zebra"), ("f" * 32, f"no job {'f' * 32}"), (shared, "jobs begin with")):
        result = stack.dockyard("trace", prefix, check=False)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
        assert text in result.stderr


def test_a_job_that_waits_is_seen_and_cancelled_by_id(stack: Any, waiting: Any) -> None:
    process = waiting()
    (job_id,) = asked_by(stack, process.pid)
    assert stack.dockyard("trace", job_id).stdout.splitlines()[2].split()[-2] in ("running", "waiting")
    assert stack.dockyard("cancel", job_id[:12]).stdout == f"{job_id}\n"
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (1, "", "wait: cancelled\n")
    again = stack.dockyard("cancel", job_id, check=False)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "has ended: 1 wait: cancelled" in again.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_interrupts_a_job_cancels_it(stack: Any, waiting: Any, number: int, status: int) -> None:
    process = waiting()
    process.send_signal(number)
    process.communicate(timeout=10)
    assert process.returncode == status
    assert asked_by(stack, process.pid) == []


def test_exit_statuses(stack: Any) -> None:
    stack.docker("run", "--name", "three", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    assert stack.dockyard("job", "wait", "three").stdout == "3\n"
    logs = stack.dockyard("job", "logs", "three")
    assert (logs.stdout, logs.stderr) == ("out\n", "err\n")
    failed = stack.dockyard("job", "start", "nobody", "--json", check=False)
    assert failed.returncode == 1
    assert json.loads(failed.stderr) == {"code": "not_found", "message": "No such container: nobody", "status": 1}
    assert stack.dockyard("job", "nonesuch", check=False).returncode == 127


def test_a_deadline_is_kept(stack: Any, waiting: Any) -> None:
    first = waiting()
    late = stack.dockyard("job", "wait", "web", "--timeout", "0.3", check=False)
    assert (late.returncode, late.stdout) == (1, "")
    assert "deadline" in late.stderr
    until(lambda: [job["caller"] for job in jobs(stack, "--running", "--name", "wait")] == [f"ctl[{first.pid}]"])


@pytest.mark.parametrize("words", [("attach", "web"), ("logs", "web", "--env", "follow=1")], ids=" ".join)
def test_a_deadline_is_the_output_s_too(stack: Any, waiting: Any, words: tuple[str, ...]) -> None:
    waiting()
    late = stack.dockyard("job", *words, "--timeout", "0.5", check=False)
    assert (late.returncode, late.stderr) == (1, f"{words[0]}: not done before the deadline\n")


def test_events_are_followed_as_in_2014(stack: Any) -> None:
    command = [DOCKYARD, "job", "events"]
    with subprocess.Popen(command, env=stack.environ, stdout=subprocess.PIPE, text=True) as following:
        until(lambda: json.loads(stack.dockyard("job", "subscribers_count", "--json").stdout)["count"])
        stack.docker("create", "--name", "web", "busybox")
        event = json.loads(following.stdout.readline())
        following.send_signal(signal.SIGINT)
    assert (event["Action"], event["Actor"]["Attributes"]["name"], following.returncode) == ("create", "web", 130)
    stack.docker("rm", "web")
    past = ["--env", f"since={event['timeNano']}", "--env", f"until={time.time_ns()}"]
    lines = stack.dockyard("job", "events", *past).stdout.splitlines()
    assert [json.loads(line)["Action"] for line in lines] == ["create", "destroy"]
    late = stack.dockyard("job", "events", "--timeout", "0.5", check=False)
    assert (late.returncode, late.stdout, late.stderr) == (1, "", "events: not done before the deadline\n")


def test_a_path_of_a_container_comes_out_as_an_archive(stack: Any, waiting: Any) -> None:
    waiting()
    command = [DOCKYARD, "job", "container_copy", "web", "/etc/hostname"]
    made = subprocess.run(command, env=stack.environ, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
        assert archive.getnames() == ["hostname"]


def test_an_archive_goes_in_by_stdin_and_out_by_stdout(stack: Any, tmp_path: Path) -> None:
    archive = tmp_path / "busybox.tar"
    stack.docker("tag", "busybox", "again:1")
    with archive.open("wb") as out:
        subprocess.run([DOCKYARD, "job", "image_export", "again:1"], env=stack.environ, stdout=out, check=True)
    with tarfile.open(archive) as written:
        assert "manifest.json" in written.getnames()
    stack.docker("rmi", "again:1")
    with archive.open("rb") as source:
        loaded = stack.dockyard("job", "load", stdin=source)
    assert loaded.stdout == "Loaded image: again:1\n"
    assert stack.out("images", "-q", "again:1")
    stack.docker("rmi", "again:1")
    bad = subprocess.run(
        [DOCKYARD, "job", "load"], env=stack.environ, input=b"no archive", capture_output=True, check=False
    )
    assert (bad.returncode, bad.stderr.count(b"\n")) == (1, 1)


def test_to_attach_by_hand(stack: Any) -> None:
    stack.docker("create", "-i", "--name", "cat", "busybox", "sh", "-c", "cat; echo end >&2")
    command = [DOCKYARD, "job", "attach", "cat"]
    with subprocess.Popen(
        command, env=stack.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        until(
            lambda: [job for job in jobs(stack) if job["name"] == "attach" and job["caller"] == f"ctl[{process.pid}]"]
        )
        stack.dockyard("job", "start", "cat")
        out, err = process.communicate(b"typed\n", timeout=20)
    assert (out, err, process.returncode) == (b"typed\n", b"end\n", 0)


def test_help_says_who_holds_a_job(stack: Any) -> None:
    shown = stack.dockyard("job", "layer_mount", "--help").stdout
    assert shown.startswith("Usage: dockyard job layer_mount [--env KEY=VALUE]… [--timeout SECONDS] [--json]\n")
    (pid,) = stack.pids("graphdriver")
    assert shown.endswith(f"Held by: graphdriver[{pid}]\n")
    assert stack.dockyard("job", "help", "layer_mount").stdout == shown


def test_jobs_that_are_followed_are_shown_as_they_end(stack: Any) -> None:
    command = [DOCKYARD, "jobs", "--follow", "--json", "--name", "create", "--limit", "1"]
    with subprocess.Popen(command, env=stack.environ, stdout=subprocess.PIPE, text=True) as process:
        seen: list[dict[str, Any]] = []
        assert process.stdout is not None
        reader = threading.Thread(target=lambda: seen.extend(map(json.loads, process.stdout or io.StringIO())))
        reader.start()
        try:
            stack.docker("create", "--name", "first", "busybox")
            until(lambda: any(job["name"] == "create" and job["status"] == 0 for job in seen))
            stack.docker("create", "--name", "first", "busybox", check=False)
            until(lambda: any(job["name"] == "create" and job["status"] == 1 for job in seen))
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
        finally:
            process.kill()  # it would be waited for without end
            reader.join()
    assert len({job["id"] for job in seen}) == len(seen)


def test_top_shows_processes_jobs_and_containers(stack: Any, waiting: Any) -> None:
    waiting()
    shown = stack.dockyard("top", "--once")
    rows = [line.split() for line in shown.stdout.splitlines() if line]
    assert {"arbiter", "engine", "graphdriver", "netdriver", "execdriver", "apiserver"} <= {row[0] for row in rows}
    assert any(row[1:2] == ["wait()"] or "wait(" in row[1] for row in rows if len(row) > 1)
    (container,) = [row for row in rows if row[1:3] == ["web", "running"]]
    assert container[3].endswith("%")
    assert container[5] == "1"


def test_an_engine_that_hangs_hides_neither_processes_nor_containers(stack: Any, waiting: Any) -> None:
    (engine,) = stack.pids("engine")
    container = stack.out("ps", "-q", "--no-trunc")
    os.kill(engine, signal.SIGSTOP)
    try:
        shown = stack.dockyard("ps")
        top = stack.dockyard("top", "--once")
        past = stack.dockyard("jobs")
    finally:
        os.kill(engine, signal.SIGCONT)
    for text in (shown.stdout, top.stdout):
        assert [line.split()[2:5] for line in text.splitlines() if line.startswith("engine")] == [
            ["active", "no", "answer"]
        ]
    assert "the engine does not answer" in shown.stderr
    assert "JOBS  not known" in top.stdout
    assert top.stdout.splitlines()[-1].split()[:3] == [container, "web", "running"]  # by the records
    assert past.stderr == "dockyard: the engine does not answer; this is what its records say\n"
    assert " start(" in past.stdout
    assert "Traceback" not in shown.stderr + top.stderr
    until(lambda: "ready" in stack.dockyard("ps").stdout)


def test_a_job_under_way_says_what_it_waits_for(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    command = [DOCKYARD, "job", "stop", "web", "--env", "timeout=300"]
    process = subprocess.Popen(command, env=stack.environ, stderr=subprocess.PIPE)
    try:
        (job_id,) = until(lambda: asked_by(stack, process.pid))
        waits = "waiting for the exit of container web"
        until(lambda: f"{waits} since" in stack.dockyard("jobs", "--running").stdout)
        assert f"… {waits}" in stack.dockyard("trace", job_id).stdout
        assert waits in stack.dockyard("top", "--once").stdout
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
        assert process.returncode == 130
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("view", "text"),
    [
        (("jobs", "--running"), "waiting for runtime_kill at execdriver since"),
        (("trace",), "… waiting for runtime_kill at execdriver"),
        (("top", "--once"), "waiting for runtime_kill at execdriver"),
    ],
)
def test_a_job_says_which_driver_it_waits_for(stack: Any, view: tuple[str, ...], text: str) -> None:
    """A driver that is frozen is given up after 5 s: a machine that does not look by then looks once more."""
    (execdriver,) = stack.pids("execdriver")
    stack.docker("run", "-d", "--name", "web", "busybox", "sleep", "300")
    for _ in range(5):
        os.kill(execdriver, signal.SIGSTOP)
        process = subprocess.Popen([DOCKYARD, "job", "kill", "web", "--env", "signal=TERM"], env=stack.environ)
        try:
            (job_id,) = until(partial(asked_by, stack, process.pid))
            shown = stack.dockyard(*view, *([job_id] if view == ("trace",) else [])).stdout
        finally:
            os.kill(execdriver, signal.SIGCONT)
            process.wait(60)
        if text in shown:
            break
    assert text in shown


def test_a_process_that_was_killed_is_counted(stack: Any) -> None:
    def graphdriver() -> Any:
        processes = json.loads(stack.dockyard("ps", "--json").stdout)
        return next(process for process in processes if process["service"] == "graphdriver")

    before = graphdriver()
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: graphdriver()["pid"] not in (None, before["pid"]) and graphdriver()["health"] == "ready")
    assert graphdriver()["restarts"] == before["restarts"] + 1


def test_the_shell_completes_containers_and_services(stack: Any) -> None:
    stack.docker("create", "--name", "website", "busybox")

    def complete(line: str) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_DOCKYARD_COMPLETE": "complete_bash"}
        shown = subprocess.run([DOCKYARD], env={**stack.environ, **words}, capture_output=True, text=True, check=True)
        return shown.stdout.split()

    assert complete("dockyard job kill web") == ["website"]
    assert complete("dockyard job image_inspect busy") == ["busybox:latest"]
    assert complete("dockyard restart e") == ["engine", "execdriver"]
    assert "layer_mount" in complete("dockyard job layer_")
    made = json.loads(stack.dockyard("jobs", "--name", "create", "--json").stdout)[0]["id"]
    assert complete(f"dockyard trace {made[:20]}") == [made]
    assert complete(f"dockyard cancel {made[:20]}") == []  # it has ended
