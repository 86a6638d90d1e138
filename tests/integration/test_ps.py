"""docker ps and docker inspect."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.integration.conftest import until

pytestmark = pytest.mark.root
HEALTHY = ["--health-cmd", "true", "--health-interval", "100ms"]


@pytest.fixture
def several(stack: Any) -> Any:
    """Containers of which each is unlike the others."""
    stack.docker("create", "--name", "made", "--label", "a=b", "-v", "vol:/data", "busybox", "true")
    stack.docker("run", "-d", "--name", "ended", "--label", "a=c", "busybox", "sh", "-c", "exit 3")
    stack.docker("wait", "ended")
    stack.docker(
        "run", "-d", "--name", "web", "-p", "127.0.0.1::80", "--expose", "99", *HEALTHY, "busybox", "sleep", "1000"
    )
    stack.docker("run", "-d", "--name", "held", "--network", "none", "busybox", "sleep", "1000")
    stack.docker("pause", "held")
    until(lambda: stack.out("inspect", "-f", "{{.State.Health.Status}}", "web") == "healthy")
    return stack


def names(stack: Any, *options: str) -> set[str]:
    return set(stack.out("ps", "--format", "{{.Names}}", *options).split())


def test_filters(several: Any) -> None:
    assert names(several) == {"web", "held"}
    assert names(several, "-a") == {"made", "ended", "web", "held"}
    container = several.out("inspect", "-f", "{{.Id}}", "web")
    port = several.out("port", "web", "80").rpartition(":")[2]
    image = several.out("inspect", "-f", "{{.Id}}", "busybox")
    for filters, expected in (
        (["status=created"], {"made"}), (["status=exited"], {"ended"}), (["status=paused"], {"held"}),
        (["status=running"], {"web"}), (["status=created", "status=exited"], {"made", "ended"}),
        (["exited=3"], {"ended"}), (["exited=4"], set()), (["label=a"], {"made", "ended"}), (["label=a=b"], {"made"}),
        (["label=a", "label=a=c"], {"ended"}), (["name=e"], {"made", "ended", "web", "held"}), (["name=^/we"], {"web"}),
        (["name=web", "name=made"], {"web", "made"}), ([f"id={container[:10]}"], {"web"}), (["ancestor=busybox"],
        {"made", "ended", "web", "held"}), ([f"ancestor={image}"], {"made", "ended", "web", "held"}),
        (["ancestor=nonesuch"], set()), (["before=ended"], {"made"}), (["since=ended"], {"web", "held"}),
        (["volume=vol"], {"made"}), (["volume=/data"], {"made"}), (["network=none"], {"held"}),
        (["network=bridge"], {"made", "ended", "web"}), (["health=healthy"], {"web"}),
        (["health=none"], {"made", "ended", "held"}), ([f"publish={port}"], {"web"}), (["publish=80-82"], set()),
        (["expose=99/tcp"], {"web"}), (["expose=79-81"], {"web"}),
        (["is-task=false"], {"made", "ended", "web", "held"}),
        (["is-task=true"], set()), (["isolation=default"], {"made", "ended", "web", "held"}),
        (["status=running", "label=a"], set()),
    ):  # fmt: skip
        given = [word for entry in filters for word in ("-f", entry)]
        assert names(several, "-a", *given) == expected, filters


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("colour=red", "invalid filter 'colour'"), ("status=asleep", "asleep"), ("exited=x", "exited"),
        ("health=fine", "fine"), ("before=nobody", "nobody"), ("is-task=maybe", "is-task"), ("publish=x", "x"),
    ],
)  # fmt: skip
def test_bad_filters(stack: Any, entry: str, said: str) -> None:
    result = stack.docker("ps", "-f", entry, check=False)
    assert (result.returncode, said in result.stderr) == (1, True), result.stderr


def test_last_latest_and_quiet(several: Any) -> None:
    assert names(several, "-n", "2") == {"web", "held"}
    assert names(several, "-l") == {"held"}
    assert several.out("ps", "-lq", "--no-trunc") == several.out("inspect", "-f", "{{.Id}}", "held")
    assert several.out("ps", "-lq") == several.out("inspect", "-f", "{{.Id}}", "held")[:12]


def test_what_is_shown(several: Any) -> None:
    lines = [json.loads(line) for line in several.out("ps", "-a", "--no-trunc", "--format", "{{json .}}").splitlines()]
    shown = {line["Names"]: line for line in lines}
    assert [line["Names"] for line in lines] == ["held", "web", "ended", "made"]
    assert shown["made"]["Status"] == "Created"
    assert re.fullmatch(r"Exited \(3\) .* ago", shown["ended"]["Status"])
    assert re.fullmatch(r"Up .* \(healthy\)", shown["web"]["Status"])
    assert re.fullmatch(r"Up .* \(Paused\)", shown["held"]["Status"])
    assert {name: line["State"] for name, line in shown.items()} == {
        "made": "created", "ended": "exited", "web": "running", "held": "paused",
    }  # fmt: skip
    assert re.fullmatch(r"99/tcp, 127\.0\.0\.1:\d+->80/tcp", shown["web"]["Ports"])
    assert (shown["made"]["Labels"], shown["made"]["Mounts"], shown["made"]["LocalVolumes"]) == ("a=b", "vol", "1")
    assert (shown["ended"]["Command"], shown["ended"]["Image"]) == ("\"sh -c 'exit 3'\"", "busybox")
    assert (shown["held"]["Networks"], shown["web"]["Networks"]) == ("none", "bridge")


def test_inspect(stack: Any) -> None:
    container = stack.out("create", "--name", "web", "busybox", "true")
    shown = json.loads(stack.out("inspect", container[:8]))
    assert [(entry["Id"], entry["Name"]) for entry in shown] == [(container, "/web")]
    result = stack.docker("inspect", "web", "nobody", check=False)
    assert (result.returncode, len(json.loads(result.stdout))) == (1, 1)
    assert "No such object: nobody" in result.stderr
    assert stack.docker("inspect", "--type", "image", "web", check=False).returncode == 1
    ambiguous = stack.docker("inspect", "--type", "container", "-f", "x", "", check=False)
    assert ambiguous.returncode == 1
