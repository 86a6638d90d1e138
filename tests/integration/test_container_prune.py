"""docker container prune."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

pytestmark = pytest.mark.root


def prune(stack: Any, *filters: str) -> set[str]:
    """Return the names of those that have gone."""
    before = set(stack.out("ps", "-a", "--format", "{{.Names}}").split())
    stack.docker("container", "prune", "-f", *[word for entry in filters for word in ("--filter", entry)])
    return before - set(stack.out("ps", "-a", "--format", "{{.Names}}").split())


def test_all_but_those_that_run(stack: Any) -> None:
    stack.docker("create", "--name", "created", "busybox", "true")
    ids = [stack.out("inspect", "-f", "{{.Id}}", "created")]
    ids.append(stack.out("run", "-d", "--name", "exited", "busybox", "sh", "-c", "head -c 1000000 /dev/zero > /f"))
    stack.docker("wait", "exited")
    stack.docker("run", "-d", "--name", "runs", "busybox", "sleep", "1000")
    stack.docker("run", "-d", "--name", "paused", "busybox", "sleep", "1000")
    stack.docker("pause", "paused")
    since = str(time.time())
    said = stack.out("container", "prune", "-f").splitlines()
    assert said[0] == "Deleted Containers:"
    assert set(said[1:3]) == set(ids)
    assert said[-1].startswith("Total reclaimed space: 1")
    assert said[-1].endswith("MB")
    assert set(stack.out("ps", "-a", "--format", "{{.Names}}").split()) == {"runs", "paused"}
    events = stack.out(
        "events", "--since", since, "--until", str(time.time()), "-f", "event=prune", "--format", "{{json .}}"
    )
    event = json.loads(events)
    assert (event["Type"], event["Action"], event["Actor"]["ID"]) == ("container", "prune", "")
    assert int(event["Actor"]["Attributes"]["reclaimed"]) >= 1_000_000


def test_nothing_to_do(stack: Any) -> None:
    assert stack.out("container", "prune", "-f") == "Total reclaimed space: 0B"


def test_filters(stack: Any) -> None:
    for name, labels in (("plain", []), ("labelled", ["--label", "a=b"]), ("other", ["--label", "a=c"])):
        stack.docker("create", "--name", name, *labels, "busybox", "true")
    assert prune(stack, "until=1h") == set()
    assert prune(stack, "label=a=b") == {"labelled"}
    assert prune(stack, "label!=a") == {"plain"}
    assert prune(stack, "until=0s", "label=a") == {"other"}


@pytest.mark.parametrize(("entry", "said"), [("colour=red", "invalid filter 'colour'"), ("until=sometime", "sometime")])
def test_bad_filters(stack: Any, entry: str, said: str) -> None:
    stack.docker("create", "--name", "kept", "busybox", "true")
    result = stack.docker("container", "prune", "-f", "--filter", entry, check=False)
    assert (result.returncode, said in result.stderr) == (1, True), result.stderr
    assert stack.out("ps", "-aq")


def test_only_one_time_is_taken(stack: Any) -> None:
    result = stack.docker("container", "prune", "-f", "--filter", "until=1h", "--filter", "until=2h", check=False)
    assert (result.returncode, "more than one until filter specified" in result.stderr) == (1, True), result.stderr
