"""The docker command, as a user types it."""

from __future__ import annotations

import http.client
import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import until

pytestmark = pytest.mark.root


def test_version_and_info(stack: Any) -> None:
    version = json.loads(stack.out("version", "--format", "{{json .}}"))
    assert version["Server"]["ApiVersion"] == "1.51"
    info = json.loads(stack.out("info", "--format", "{{json .}}"))
    assert (info["Driver"], info["DefaultRuntime"], info["Swarm"]["LocalNodeState"]) == ("overlay", "crun", "inactive")
    assert not info["Warnings"]


def test_a_container_lives_through_its_verbs(stack: Any) -> None:
    script = 'echo started; trap "exit 3" TERM; while :; do sleep 0.05; done'
    container = stack.out("run", "-d", "--name", "web", "busybox", "sh", "-c", script)
    assert re.fullmatch("[0-9a-f]{64}", container)
    until(lambda: stack.docker("logs", "web").stdout == "started\n")
    assert "Up " in stack.out("ps", "--filter", "name=web", "--format", "{{.Status}}")
    stack.docker("stop", "web")
    assert stack.out("wait", "web") == "3"
    assert stack.out("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "web") == "exited 3"
    stack.docker("start", "web")
    until(lambda: stack.docker("logs", "web").stdout == "started\nstarted\n")
    stack.docker("kill", "web")
    assert stack.out("wait", "web") == "137"
    stack.docker("rename", "web", "db")
    assert (
        "No such container: web" in stack.docker("inspect", "-f", "x", "--type", "container", "web", check=False).stderr
    )
    stack.docker("rm", "db")
    assert stack.out("ps", "-aq") == ""


def test_logs_follow_and_select(stack: Any) -> None:
    stack.docker(
        "run",
        "-d",
        "--name",
        "logged",
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3; do echo $i; sleep 0.3; done; echo e >&2",
    )
    followed = stack.docker("logs", "-f", "logged")
    assert (followed.stdout, followed.stderr) == ("1\n2\n3\n", "e\n")
    assert stack.docker("logs", "--tail", "2", "logged").stdout == "3\n"
    stamped = stack.docker("logs", "-t", "--tail", "1", "logged").stderr
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z e\n", stamped)


def test_images_save_load_tag_and_remove(stack: Any, tmp_path: Path) -> None:
    before = stack.out("images", "--no-trunc", "--format", "{{.ID}}")
    archive = str(tmp_path / "b.tar")
    stack.docker("tag", "busybox", "example/box:1")
    stack.docker("save", "-o", archive, "example/box:1")
    assert stack.out("rmi", "example/box:1") == "Untagged: example/box:1"
    assert stack.out("load", "-i", archive) == "Loaded image: example/box:1"
    shown = stack.out("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}").splitlines()
    assert sorted(shown) == sorted([f"busybox:latest {before}", f"example/box:1 {before}"])
    stack.docker("rmi", "example/box:1")
    assert "dockyard busybox" in stack.out("history", "busybox")
    broken = tmp_path / "broken.tar"
    broken.write_bytes(b"this is no archive")
    assert "invalid archive" in stack.docker("load", "-i", str(broken), check=False).stderr


def test_an_image_in_use_is_not_removed(stack: Any) -> None:
    stack.docker("create", "--name", "user", "busybox", "true")
    assert "must be forced" in stack.docker("rmi", "busybox", check=False).stderr


def test_the_network_of_a_container(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "server", "busybox", "sh", "-c", "echo pong > /tmp/f; httpd -f -p 80 -h /tmp")
    address = stack.out("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "server")
    assert address.startswith("10.213.0.")
    look = "ip -o -4 addr show eth0; ip route; cat /etc/hosts /etc/hostname"
    out = stack.out("run", "--rm", "--hostname", "box", "busybox", "sh", "-c", look)
    assert "default via 10.213.0.1 dev eth0" in out
    assert re.search(r"10\.213\.0\.\d+\tbox", out)
    fetch = [
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        f"for i in 1 2 3 4 5 6 7 8 9; do wget -qO- {address}/f && break; sleep 0.1; done",
    ]
    assert stack.out(*fetch) == "pong"
    assert stack.out("run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net") == "lo"
    assert "nameserver" in stack.out("run", "--rm", "--dns", "192.0.2.1", "busybox", "cat", "/etc/resolv.conf")


def test_jobs_are_injected_by_hand(stack: Any) -> None:
    assert "0.1.0" in stack.dockyard("job", "version").stdout
    created = stack.dockyard("job", "create", "made", "--env", "Image=busybox", "--env", 'Cmd=["echo","by hand"]')
    container = created.stdout.strip()
    listed = json.loads(stack.dockyard("job", "containers", "--env", "all=1").stdout)
    assert [entry["Id"] for entry in listed] == [container]
    stack.dockyard("job", "start", "made")
    stack.docker("wait", "made")
    assert stack.docker("logs", "made").stdout == "by hand\n"
    missing = stack.dockyard("job", "start", "nobody", check=False)
    assert (missing.returncode, missing.stderr) == (1, "No such container: nobody\n")
    assert stack.dockyard("job", "nonesuch", check=False).returncode == 127
    names = stack.dockyard("commands").stdout.split()
    assert {"create", "start", "allocate_interface", "serveapi", "acceptconnections", "layer_mount"} <= set(names)


def test_a_trace_spans_the_processes(stack: Any) -> None:
    stack.docker("run", "--rm", "busybox", "true")
    jobs = json.loads(stack.dockyard("jobs", "--json").stdout)
    start = next(job for job in jobs if job["name"] == "start")
    traced = json.loads(stack.dockyard("trace", start["id"], "--json").stdout)
    assert {job["service"] for job in traced} == {"engine", "graphdriver", "netdriver", "execdriver"}


def test_bad_requests_are_400_in_json(stack: Any) -> None:
    for method, path, headers, body in (
        ("POST", "/v1.51/containers/create", {"Content-Type": "application/json"}, '{"Image": 7}'),
        ("POST", "/containers/create", {"Content-Type": "application/json"}, "{"),
        ("POST", "/containers/create", {"Content-Type": "application/json"}, "{} {}"),
        ("POST", "/containers/create", {"Content-Type": "text/plain"}, "{}"),
        ("GET", "/containers/json?limit=many", {}, ""),
        ("GET", "/containers/json?filters=%7B", {}, ""),
        ("GET", "/containers/json?filters=%7B%22colour%22%3A%5B%22x%22%5D%7D", {}, ""),
        ("POST", "/containers/x/wait?condition=sometime", {}, ""),
        ("GET", "/v1.99/info", {}, ""),
    ):
        connection = http.client.HTTPConnection("dockyard", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(f"{stack.run}/docker.sock")
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Content-Type"]) == (400, "application/json"), path
        assert json.loads(answer.read())["message"]
        connection.close()
