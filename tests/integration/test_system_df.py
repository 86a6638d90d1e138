"""docker system df, docker ps -s and docker inspect -s: what is on disk."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from tests.integration.api import request

pytestmark = pytest.mark.root
OWN = 300_000  # bytes that a container writes


@pytest.fixture
def filled(stack: Any) -> Any:
    """A container that has written to itself and to a volume, and an image that shares all but a layer of its own."""
    script = f"head -c {OWN} /dev/zero > /f; head -c 5000 /dev/zero > /vol/v; sleep 1000"
    stack.docker("run", "-d", "--name", "web", "-v", "data:/vol", "busybox", "sh", "-c", f"{script}")
    stack.docker("exec", "web", "sh", "-c", "until test -s /vol/v; do usleep 10000; done")
    stack.docker("commit", "web", "derived")
    stack.docker("volume", "create", "unused")
    return stack


def test_sizes_are_true(filled: Any) -> None:
    status, usage = request(filled, "GET", "/system/df")
    assert status == 200
    images = {image["RepoTags"][0]: image for image in usage["Images"]}
    base, derived = images["busybox:latest"], images["derived:latest"]
    assert (base["SharedSize"], base["Containers"], derived["Containers"]) == (base["Size"], 1, 0)
    assert derived["SharedSize"] == base["Size"]
    assert derived["Size"] - derived["SharedSize"] == OWN
    assert usage["LayersSize"] == base["Size"] + OWN
    (container,) = usage["Containers"]
    assert (container["SizeRw"], container["SizeRootFs"]) == (OWN, base["Size"] + OWN)
    volumes = {volume["Name"]: volume["UsageData"] for volume in usage["Volumes"]}
    assert volumes == {"data": {"Size": 5000, "RefCount": 1}, "unused": {"Size": 0, "RefCount": 0}}
    assert usage["BuildCache"] == []


def test_the_table(filled: Any) -> None:
    lines = [json.loads(line) for line in filled.out("system", "df", "--format", "{{json .}}").splitlines()]
    shown = {line["Type"]: (line["TotalCount"], line["Active"], line["Size"]) for line in lines}
    assert shown["Containers"] == ("1", "1", "300kB")
    assert shown["Local Volumes"] == ("2", "1", "5kB")
    assert shown["Build Cache"] == ("0", "0", "0B")
    assert shown["Images"][:2] == ("2", "1")
    verbose = json.loads(filled.out("system", "df", "-v", "--format", "{{json .}}"))
    assert [entry["Size"] for entry in verbose["Containers"]] == ["300kB"]
    assert {entry["Name"]: entry["Links"] for entry in verbose["Volumes"]} == {"data": "1", "unused": "0"}
    assert {entry["UniqueSize"] for entry in verbose["Images"]} == {"0B", "300kB"}


@pytest.mark.parametrize(
    ("kind", "key"),
    [("container", "Containers"), ("image", "Images"), ("volume", "Volumes"), ("build-cache", "BuildCache")],
)
def test_by_type(stack: Any, kind: str, key: str) -> None:
    stack.docker("create", "--name", "web", "-v", "/vol", "busybox", "true")
    _, usage = request(stack, "GET", f"/system/df?type={kind}")
    given = {name for name in ("Containers", "Images", "Volumes", "BuildCache") if usage[name] is not None}
    assert given == {key}
    assert bool(usage["LayersSize"]) is (kind == "image")


def test_an_unknown_type(stack: Any) -> None:
    status, error = request(stack, "GET", "/system/df?type=image&type=colour")
    assert (status, error) == (400, {"message": "unknown object type: colour"})


def test_ps_and_inspect_with_sizes(filled: Any) -> None:
    assert filled.out("ps", "-s", "--format", "{{.Size}}").startswith("300kB (virtual ")
    assert "SIZE" in filled.out("ps", "-s").splitlines()[0]
    shown = json.loads(filled.out("inspect", "-s", "web"))[0]
    assert (shown["SizeRw"], shown["SizeRootFs"] > OWN) == (OWN, True)
    assert "SizeRw" not in json.loads(filled.out("inspect", "web"))[0]
    _, listed = request(filled, "GET", "/containers/json")
    assert "SizeRw" not in listed[0]
    _, images = request(filled, "GET", "/images/json?shared-size=1")
    assert all(image["SharedSize"] > 0 for image in images)
    _, images = request(filled, "GET", "/images/json")
    assert {image["SharedSize"] for image in images} == {-1}


def test_nobody_waits_for_a_measurement(stack: Any) -> None:
    """While large trees are measured, containers start as ever."""
    script = (
        "mkdir /d; cd /d; i=0; while test $i -lt 10; do mkdir $i; (cd $i; seq 1 200 | xargs touch); i=$((i+1)); done"
    )
    stack.docker("run", "--name", "large", "busybox", "sh", "-c", script)
    stop = threading.Event()

    def measure() -> None:
        while not stop.is_set():
            request(stack, "GET", "/system/df?type=container")

    threads = [threading.Thread(target=measure) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        began = time.monotonic()
        stack.docker("run", "--rm", "busybox", "true")
        took = time.monotonic() - began
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert took < 5
