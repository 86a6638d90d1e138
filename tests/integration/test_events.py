"""docker events: what each verb tells, with the attributes of its actor."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api import hijack, request
from tests.integration.conftest import until
from tests.integration.terminal import Terminal

pytestmark = pytest.mark.root


def past(stack: Any, since: str, *options: str) -> list[Any]:
    """Return the events since a moment, but those of volumes."""
    now = f"{time.time():.9f}"
    lines = stack.out("events", "--since", since, "--until", now, *options, "--format", "{{json .}}").splitlines()
    return [event for event in map(json.loads, lines) if event["Type"] == "container"]


@pytest.fixture
def told(stack: Any) -> Callable[..., list[tuple[str, dict[str, str]]]]:
    """Do something with a container `web`, and return its events as (action, attributes beside the usual)."""
    stack.docker("run", "-d", "-i", "--name", "web", "--label", "a=b", "busybox", "cat")

    def do(*verbs: list[str]) -> list[tuple[str, dict[str, str]]]:
        since = f"{time.time():.9f}"
        for verb in verbs:
            stack.docker(*verb, check=False)
        found = []
        for event in past(stack, since, "-f", "type=container"):
            attributes = event["Actor"]["Attributes"]
            assert (attributes.pop("image"), attributes.pop("a"), bool(attributes.pop("name"))) == (
                "busybox",
                "b",
                True,
            )
            assert event["Actor"]["ID"] == event["id"]
            assert (event["status"], event["from"], event["scope"]) == (event["Action"], "busybox", "local")
            assert event["timeNano"] // 1_000_000_000 == event["time"]
            found.append((event["Action"], attributes))
        return found

    return do


def test_of_verbs_without_more_to_say(stack: Any, told: Any, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    for verb, actions in (
        (["pause", "web"], ["pause"]),
        (["unpause", "web"], ["unpause"]),
        (["top", "web"], ["top"]),
        (["update", "-m", "64m", "--memory-swap", "64m", "web"], ["update"]),
        (["export", "-o", str(tmp_path / "out"), "web"], ["export"]),
        (["cp", "web:/etc/passwd", str(tmp_path)], ["archive-path"]),
        (["cp", str(tmp_path / "f"), "web:/tmp"], ["extract-to-dir"]),
    ):
        assert told(verb) == [(action, {}) for action in actions], verb


def test_kill_stop_start_restart(told: Any) -> None:
    killed, died = told(["kill", "-s", "KILL", "web"], ["wait", "web"])
    assert (killed, died[0], died[1]["exitCode"]) == (("kill", {"signal": "9"}), "die", "137")
    assert told(["start", "web"]) == [("start", {})]
    actions = told(["restart", "-t", "0", "web"])
    assert [action for action, _ in actions] == ["kill", "kill", "die", "stop", "start", "restart"]
    assert actions[2][1]["exitCode"] == "137"
    assert set(actions[2][1]) == {"exitCode", "execDuration"}
    assert [action for action, _ in told(["rm", "-f", "web"])] == ["kill", "die", "destroy"]


def test_rename_and_its_old_name(stack: Any, told: Any) -> None:
    assert told(["rename", "web", "other"]) == [("rename", {"oldName": "/web"})]


def test_commit(stack: Any, told: Any) -> None:
    ((action, attributes),) = [e for e in told(["commit", "-m", "words", "web", "made:1"]) if "pause" not in e[0]]
    image = stack.out("inspect", "-f", "{{.Id}}", "made:1")
    assert (action, attributes) == ("commit", {"comment": "words", "imageID": image, "imageRef": "made:1"})


def test_exec(stack: Any, told: Any) -> None:
    created, started, died = told(["exec", "web", "sh", "-c", "exit 3"])
    assert [created[0], started[0], died[0]] == ["exec_create: sh -c exit 3", "exec_start: sh -c exit 3", "exec_die"]
    (exec_id,) = {attributes["execID"] for _, attributes in (created, started, died)}
    assert re.fullmatch("[0-9a-f]{64}", exec_id)
    assert died[1] == {"execID": exec_id, "exitCode": "3"}
    assert [event["Action"] for event in past(stack, "1h", "-f", "event=exec_create", "-f", "container=web")]


def test_attach_and_resize(stack: Any) -> None:
    stack.docker("create", "-it", "--name", "web", "busybox", "sh")
    since = f"{time.time():.9f}"
    with Terminal(stack, "start", "-ai", "web", size=(31, 97)) as terminal:
        terminal.read_until(b"# ")
        terminal.type(b"exit\n")
        assert terminal.wait() == 0
    events = past(stack, since)
    assert [event["Action"] for event in events][:2] == ["attach", "start"]
    sizes = [event["Actor"]["Attributes"] for event in events if event["Action"] == "resize"]
    assert sizes
    assert all((size["height"], size["width"]) == ("31", "97") for size in sizes)


def test_the_keys_that_detach(stack: Any) -> None:
    stack.docker("run", "-dit", "--name", "web", "busybox", "sh")
    since = f"{time.time():.9f}"
    with hijack(stack, "/containers/web/attach?stream=1&stdin=1&stdout=1&detachKeys=ctrl-a,d") as attached:
        attached.sendall(b"\x01d")
        while attached.recv(4096):
            continue
    config = {"Cmd": ["sh"], "Tty": True, "AttachStdin": True, "AttachStdout": True, "DetachKeys": "ctrl-a"}
    exec_id = request(stack, "POST", "/containers/web/exec", config)[1]["Id"]
    with hijack(stack, f"/exec/{exec_id}/start", {"Tty": True}) as attached:
        attached.sendall(b"\x01")
        while attached.recv(4096):
            continue
    events = past(stack, since)
    expected = ["attach", "detach", "exec_create: sh", "exec_start: sh", "exec_detach"]
    assert [event["Action"] for event in events] == expected
    assert events[-1]["Actor"]["Attributes"]["execID"] == exec_id


def test_a_client_that_only_goes_away_has_not_detached(stack: Any) -> None:
    stack.docker("run", "-d", "-i", "--name", "web", "busybox", "cat")
    since = f"{time.time():.9f}"
    with subprocess.Popen(["docker", "attach", "web"], env=stack.environ, stdin=subprocess.PIPE) as attached:
        until(lambda: past(stack, since))
        attached.kill()
    stack.docker("exec", "web", "true")
    assert "detach" not in [event["Action"] for event in past(stack, since)]


def test_followed_live_in_order(stack: Any) -> None:
    with subprocess.Popen(
        ["docker", "events", "--format", "{{.Action}}", "--filter", "type=container"],
        env=stack.environ, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        seen: list[str] = []
        reader = threading.Thread(target=lambda: seen.extend(line.strip() for line in process.stdout or ()))
        reader.start()
        until(lambda: json.loads(stack.out("info", "--format", "{{json .NEventsListener}}")) > 0)
        stack.docker("run", "--rm", "--label", "a=b", "busybox", "true")
        expected = ["create", "attach", "start", "die", "destroy"]
        until(lambda: seen == expected, what=str(seen))
        process.kill()
        reader.join()


@pytest.mark.parametrize(
    ("chosen", "actions"),
    [
        ("container=web", ["create", "start"]), ("event=start", ["start", "start"]), ("label=a=b", ["create", "start"]),
        ("label=a", ["create", "start"]), ("image=busybox", ["create", "start", "create", "start"]),
        ("type=network", []), ("container=nobody", []),
    ],
)  # fmt: skip
def test_filters(stack: Any, chosen: str, actions: list[str]) -> None:
    since = f"{time.time():.9f}"
    stack.docker("run", "-d", "--name", "web", "--label", "a=b", "busybox", "sleep", "1000")
    stack.docker("run", "-d", "--name", "other", "busybox", "sleep", "1000")
    assert [event["Action"] for event in past(stack, since, "-f", chosen)] == actions


def test_bad_requests(stack: Any) -> None:
    result = stack.docker("events", "--since", "10", "--until", "5", check=False)
    assert result.returncode == 1
    assert "`since` time (10) cannot be after `until` time (5)" in result.stderr
