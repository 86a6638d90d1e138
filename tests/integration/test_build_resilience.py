"""Builds whose client leaves, or whose processes die: nothing of them stays; and mounts, which do not stay either."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api import Connection, request
from tests.integration.builds import build, context_tar, write
from tests.integration.conftest import until

pytestmark = pytest.mark.root

SLOW = "FROM busybox\nRUN echo early > /early\nCOPY f.txt /f\nRUN echo begun; while test ! -e /go; do sleep 0.1; done\n"


def run(stack: Any, *command: str) -> str:
    return str(stack.out("run", "--rm", "made", *command))


# -- mounts


def test_mounts_of_a_step(stack: Any) -> None:
    dockerfile = """FROM busybox AS tools
        RUN mkdir -p /opt/t && echo tool > /opt/t/tool
        FROM busybox
        WORKDIR /w
        RUN --mount=type=bind,target=/ctx ls /ctx > /list && ! touch /ctx/x
        RUN --mount=target=rel,source=sub,rw cat rel/g > /g && echo lost > rel/lost
        RUN --mount=type=bind,from=tools,source=/opt/t,target=/t cat /t/tool > /tool
        RUN --mount=type=bind,from=tools,source=/opt/t/tool,target=/one,rw echo lost > /one
        RUN --mount=type=tmpfs,target=/big,size=1m df -k /big | tail -1 > /df && echo x > /big/x
        RUN --mount=type=cache,target=/cache,id=mine,mode=0700,uid=3 stat -c %a:%u /cache > /s && echo 1 >> /cache/n
        RUN --mount=type=cache,target=/other,id=mine cat /other/n > /n
        RUN --mount=type=cache,target=/cache,id=mine,ro ! touch /cache/x
        RUN test ! -e /ctx -a ! -e /w/rel -a ! -e /t -a ! -e /big -a ! -e /cache -a ! -e /one
        """
    build(stack, dockerfile, **{"f__txt": "f", "sub/g": "of the context"})
    assert run(stack, "cat", "/list", "/g", "/tool", "/s", "/n").split() == [
        "Dockerfile", "f.txt", "sub", "of", "the", "context" + "tool", "700:3", "1",
    ]  # fmt: skip
    assert " 1024 " in run(stack, "cat", "/df")
    again = build(stack, dockerfile, **{"f__txt": "another", "sub/g": "of the context"})
    assert again.stdout.count("Using cache") == 2  # the stage's RUN and WORKDIR: the context that is mounted is another
    df = json.loads(stack.out("system", "df", "--format", "{{json .}}").splitlines()[-1])
    assert (df["Type"], df["TotalCount"]) == ("Build Cache", "1")
    pruned = stack.out("builder", "prune", "-f")
    assert "Total reclaimed space: " in pruned
    until = f"{time.time():.9f}"
    (event,) = stack.out("events", "--since", "1h", "--until", until, "--filter", "type=builder").splitlines()
    assert event.partition(" ")[2].startswith("builder prune  (reclaimed=")
    assert request(stack, "POST", "/build/prune")[1] == {"CachesDeleted": [], "SpaceReclaimed": 0}
    assert not list((stack.root / "builder" / "cache").iterdir())


# -- cancellation and death


def begin(stack: Any, directory: Path, dockerfile: str = SLOW) -> subprocess.Popen[str]:
    """Begin a build whose last step waits for ever, and wait for that."""
    write(directory, {"Dockerfile": dockerfile, "f.txt": "f"})
    process = subprocess.Popen(
        ["docker", "build", "-t", "made", "--force-rm", str(directory)],
        env={**stack.environ, "DOCKER_BUILDKIT": "0"}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line == "begun\n":
            return process
    assert process.stderr is not None
    raise AssertionError(process.stderr.read())


def under_way(stack: Any) -> bool:
    """Say whether a build is."""
    return bool(json.loads(stack.dockyard("jobs", "--running", "--name", "build", "--json").stdout))


def running(stack: Any) -> list[str]:
    return list(stack.out("ps", "-q").split())


def nothing_left(stack: Any) -> bool:
    return not stack.out("ps", "-aq") and not list((stack.root / "builder" / "tmp").iterdir())


def layers_are_those_of_images(stack: Any) -> bool:
    ids = stack.out("images", "-aq", "--no-trunc").split()
    shown = json.loads(stack.out("inspect", *set(ids)))
    wanted = {
        tuple(image["RootFS"]["Layers"][: n + 1]) for image in shown for n in range(len(image["RootFS"]["Layers"]))
    }
    graph = stack.root / "graph"
    return len(list((graph / "overlay").iterdir())) == len(wanted) and not list((graph / "containers").iterdir())


def test_a_client_that_leaves_cancels_its_build(stack: Any, tmp_path: Path) -> None:
    process = begin(stack, tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    until(lambda: nothing_left(stack))
    assert stack.docker("inspect", "made", check=False).returncode
    jobs = json.loads(stack.dockyard("jobs", "--name", "build", "--limit", "1", "--json").stdout)
    assert "cancelled" in json.dumps(jobs)
    stack.docker("image", "prune", "-f")
    until(lambda: layers_are_those_of_images(stack))


def test_a_worker_of_the_api_that_is_killed_cancels_its_builds(stack: Any, tmp_path: Path) -> None:
    process = begin(stack, tmp_path)
    for worker in stack.pids("apiserver"):
        os.kill(worker, signal.SIGKILL)
    process.communicate(timeout=60)
    until(lambda: stack.docker("ps", check=False).returncode == 0)
    until(lambda: nothing_left(stack))


def test_a_client_that_leaves_in_the_midst_of_its_context(stack: Any) -> None:
    connection = Connection(stack)
    connection.connect()
    head = "POST /v1.44/build HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\nContent-Length: 1000000\r\n\r\n"
    connection.sock.sendall(head.encode() + context_tar({"Dockerfile": "FROM busybox\n"}))
    until(lambda: under_way(stack))
    connection.sock.close()
    until(lambda: not under_way(stack))
    assert nothing_left(stack)


def test_a_builder_that_is_killed_leaves_nothing(stack: Any, tmp_path: Path) -> None:
    process = begin(stack, tmp_path)
    (builder,) = stack.pids("builder")
    os.kill(builder, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "builder" in errors
    until(lambda: nothing_left(stack))
    build(stack, "FROM busybox\nRUN true\n")  # the next one is none the worse for it


def test_a_builder_that_is_killed_at_any_point_leaves_nothing(stack: Any, tmp_path: Path) -> None:
    lines = ["FROM busybox AS one", "WORKDIR /w", "COPY . .", "RUN --mount=target=/c cp /c/f.txt /f", "FROM scratch",
             "COPY --from=one / /", "RUN echo more > /more"]  # fmt: skip
    write(tmp_path, {"Dockerfile": "\n".join(lines), "f.txt": "f" * 100_000})
    for moment in (0.08, 0.2, 0.4):
        (builder,) = until(lambda: stack.pids("builder"))
        process = subprocess.Popen(
            ["docker", "build", "--no-cache", str(tmp_path)], env={**stack.environ, "DOCKER_BUILDKIT": "0"},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(moment)  # so that it is in the midst of something, whatever that is
        os.kill(builder, signal.SIGKILL)
        process.wait(60)
        until(lambda pid=builder: stack.pids("builder") not in ([], [pid]))
    until(lambda: nothing_left(stack), 30)
    stack.docker("image", "prune", "-f")
    until(lambda: layers_are_those_of_images(stack))
    assert stack.out("images", "-aq", "--no-trunc").split() == [stack.out("inspect", "-f", "{{.Id}}", "busybox")]


def test_a_build_goes_on_while_other_processes_die(stack: Any, tmp_path: Path) -> None:
    """The engine, and each driver, in the midst of a RUN: its process runs on, and so does the build."""
    process = begin(stack, tmp_path)
    (container,) = running(stack)
    for service in ("engine", "execdriver", "graphdriver", "netdriver"):
        (victim,) = stack.pids(service)
        os.kill(victim, signal.SIGKILL)
        until(lambda name=service, pid=victim: stack.pids(name) not in ([], [pid]))
        until(lambda: stack.docker("ps", check=False).returncode == 0)
    until(lambda: stack.docker("exec", container, "touch", "/go", check=False).returncode == 0)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Successfully tagged made:latest" in output
    assert run(stack, "cat", "/early") == "early"
    until(lambda: nothing_left(stack))


def test_a_stopped_builder_holds_up_nobody_else(stack: Any) -> None:
    (builder,) = stack.pids("builder")
    os.kill(builder, signal.SIGSTOP)
    try:
        assert stack.out("run", "--rm", "busybox", "echo", "on") == "on"
    finally:
        os.kill(builder, signal.SIGCONT)
    assert build(stack, "FROM busybox\nRUN true\n").returncode == 0


def test_output_is_held_up_where_nobody_reads(stack: Any) -> None:
    """A step that prints without end fills no process's memory when the client does not read."""
    data = context_tar({"Dockerfile": "FROM busybox\nRUN yes 0123456789012345678901234567890123456789\n"})
    connection = Connection(stack)
    connection.request("POST", "/v1.44/build?forcerm=1", data, {"Content-Type": "application/x-tar"})
    answer = connection.getresponse()
    assert answer.read(1 << 16)
    pids = [pid for service in ("builder", "apiserver", "engine") for pid in stack.pids(service)]
    until(lambda: _bytes_waiting(connection.sock) > 0)
    before = sum(map(resident, pids))
    until(lambda: running(stack))
    for _ in range(20):
        stack.out("ps", "-q")
    assert sum(map(resident, pids)) - before < 48 << 20
    answer.close()
    connection.close()
    until(lambda: nothing_left(stack))


def _bytes_waiting(connection: socket.socket | None) -> int:
    if connection is None:
        return 1
    try:
        return len(connection.recv(1 << 16, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return 0


def resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))
