"""docker inspect: of what kind a name is, several at once, templates, and what there is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import until

pytestmark = pytest.mark.root


def test_of_every_kind_by_its_name(net: Any) -> None:
    net.docker("create", "--name", "box", "busybox", "true")
    net.docker("volume", "create", "data")
    net.docker("network", "create", "lan")
    shown = json.loads(net.out("inspect", "box", "busybox", "data", "lan"))
    assert [one.get("Name") or one["RepoTags"][0] for one in shown] == ["/box", "busybox:latest", "data", "lan"]
    assert net.out("inspect", "--type", "network", "-f", "{{.Driver}}", "lan") == "bridge"


def test_a_container_hides_an_image_of_its_name(stack: Any) -> None:
    stack.docker("create", "--name", "busybox", "busybox", "true")
    assert stack.out("inspect", "-f", "{{.Name}}", "busybox") == "/busybox"
    assert stack.out("inspect", "--type", "image", "-f", "{{.Os}}", "busybox") == "linux"


def test_by_prefixes_of_an_id(stack: Any) -> None:
    container = stack.out("create", "busybox", "true")
    for length in (4, 12, 63, 64):
        assert stack.out("inspect", "-f", "{{.Id}}", container[:length]) == container


def test_of_none_the_others_are_shown(stack: Any) -> None:
    stack.docker("create", "--name", "box", "busybox", "true")
    result = stack.docker("inspect", "nobody", "box", check=False)
    assert (result.returncode, "No such object: nobody" in result.stderr) == (1, True)
    assert [one["Name"] for one in json.loads(result.stdout)] == ["/box"]


def test_sizes_are_there_when_they_are_asked_for(stack: Any) -> None:
    stack.docker("run", "--name", "box", "busybox", "sh", "-c", "head -c 5000 /dev/zero > /f")
    (plain,), (sized,) = (json.loads(stack.out("inspect", *words, "box")) for words in ([], ["--size"]))
    assert "SizeRw" not in plain
    assert sized["SizeRw"] == 5000
    assert sized["SizeRootFs"] > 1_000_000


def test_where_its_root_filesystem_is(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "box", "busybox", "sh", "-c", "echo mine > /own; exec sleep 1000")
    data = json.loads(stack.out("inspect", "-f", "{{json .GraphDriver.Data}}", "box"))
    assert set(data) == {"LowerDir", "MergedDir", "UpperDir", "WorkDir"}
    until((Path(data["UpperDir"]) / "own").exists)
    assert (Path(data["MergedDir"]) / "own").read_text() == "mine\n"
    assert (Path(data["LowerDir"]) / "bin/busybox").exists()


def test_times_and_state_of_one_that_has_run(stack: Any) -> None:
    stack.docker("run", "--name", "box", "busybox", "sh", "-c", "exit 3", check=False)
    (shown,) = json.loads(stack.out("inspect", "box"))
    state = shown["State"]
    assert (state["Status"], state["ExitCode"], state["Running"], state["Pid"]) == ("exited", 3, False, 0)
    assert shown["Created"] < state["StartedAt"] < state["FinishedAt"]
    assert shown["Path"] == "sh"
    assert shown["Args"] == ["-c", "exit 3"]
