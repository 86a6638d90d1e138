"""docker system info and prune, docker version."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.root


def test_info_counts(stack: Any) -> None:
    stack.docker("create", "--name", "made", "busybox", "true")
    for name in ("runs", "held"):
        stack.docker("run", "-d", "--name", name, "busybox", "sleep", "1000")
    stack.docker("pause", "held")
    info = json.loads(stack.out("system", "info", "--format", "{{json .}}"))
    counts = [info[f"Containers{kind}"] for kind in ("", "Running", "Paused", "Stopped")]
    assert (counts, info["Images"]) == ([3, 1, 1, 1], 1)
    assert (info["OSType"], info["Driver"], info["LoggingDriver"]) == ("linux", "overlay", "json-file")
    assert info["DockerRootDir"] == str(stack.root)
    assert info["DefaultRuntime"] in info["Runtimes"]


def test_version_names_both_sides(stack: Any) -> None:
    version = json.loads(stack.out("version", "--format", "{{json .}}"))
    assert version["Server"]["ApiVersion"] == "1.51"
    assert version["Server"]["MinAPIVersion"] == "1.24"
    assert {"Engine", "crun", "conmon"} <= {part["Name"] for part in version["Server"]["Components"]}


def test_prune_removes_what_nothing_needs(net: Any) -> None:
    net.docker("run", "-d", "--name", "runs", "-v", "kept:/data", "busybox", "sleep", "1000")
    net.docker("run", "--name", "ended", "-v", "/anonymous", "busybox", "true")
    net.docker("commit", "ended", "unused")
    net.docker("network", "create", "lonely")
    ended = net.out("ps", "-aq", "--no-trunc", "--filter", "name=ended")
    said = net.out("system", "prune", "-f")
    assert f"Deleted Containers:\n{ended}" in said
    assert "Deleted Networks:\nlonely" in said
    assert "Total reclaimed space:" in said
    assert net.out("ps", "-a", "--format", "{{.Names}}") == "runs"
    assert len(net.out("volume", "ls", "-q").split()) == 2
    assert "untagged: unused:latest" in net.out("system", "prune", "-af", "--volumes")
    assert net.out("images", "--format", "{{.Repository}}") == "busybox"
    assert net.out("volume", "ls", "-q") == "kept"
    assert net.out("exec", "runs", "ls", "/data") == ""


def test_prune_with_a_filter(net: Any) -> None:
    net.docker("create", "--name", "labelled", "--label", "keep", "busybox", "true")
    net.docker("create", "--name", "plain", "busybox", "true")
    net.docker("system", "prune", "-f", "--filter", "label!=keep")
    assert net.out("ps", "-a", "--format", "{{.Names}}") == "labelled"
    net.docker("system", "prune", "-f", "--filter", "until=1h")
    assert net.out("ps", "-a", "--format", "{{.Names}}") == "labelled"
