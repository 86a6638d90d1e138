"""docker update: limits that change while a container runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root
V2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()


def limit(stack: Any, container: str, v1: str, v2: str) -> str:
    """Read a cgroup file of a container, named as CONTROLLER/FILE on v1."""
    controller, _, name = v1.partition("/")
    base = Path("/sys/fs/cgroup") if V2 else Path("/sys/fs/cgroup", controller)
    return (base / stack.cgroup.lstrip("/") / container / (v2 if V2 else name)).read_text().strip()


def test_limits_change_while_the_container_runs(stack: Any) -> None:
    container = stack.out("run", "-d", "--name", "web", "-m", "64m", "busybox", "sleep", "60")
    assert limit(stack, container, "memory/memory.limit_in_bytes", "memory.max") == str(64 << 20)
    stack.docker("update", "-m", "128m", "--memory-swap", "256m", "--cpus", "0.5", "--pids-limit", "20", "web")
    assert limit(stack, container, "memory/memory.limit_in_bytes", "memory.max") == str(128 << 20)
    assert limit(stack, container, "pids/pids.max", "pids.max") == "20"
    assert limit(stack, container, "cpu/cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
    shown = json.loads(stack.out("inspect", "-f", "{{json .HostConfig}}", "web"))
    assert (shown["Memory"], shown["NanoCpus"], shown["PidsLimit"]) == (128 << 20, 500_000_000, 20)
    stack.docker("update", "--pids-limit", "-1", "web")
    assert limit(stack, container, "pids/pids.max", "pids.max") == "max"
    stack.docker("restart", "-t", "0", "web")
    assert limit(stack, container, "memory/memory.limit_in_bytes", "memory.max") == str(128 << 20)


def test_a_limit_is_felt_at_once(stack: Any) -> None:
    """busybox sh forks for each command: with one process there is none."""
    stack.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", "while :; do sleep 0.05 || exit 9; done")
    stack.docker("update", "--pids-limit", "1", "web")
    assert stack.out("wait", "web") != "0"


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["-m", "1m"], "Minimum memory limit allowed is 6MB"),
        (["--cpuset-cpus", "4095"], "Requested CPUs are not available"),
        (["--blkio-weight", "5"], "Range of blkio weight is from 10 to 1000"),
        (["--cpu-period", "5"], "CPU cfs period can not be less than 1ms"),
        (["-m", "200m"], "Memory limit should be smaller than already set memoryswap limit"),
        (["--restart", "always"], "AutoRemove is enabled"),
    ],
)
def test_what_cannot_be_is_refused_in_dockers_words(stack: Any, args: list[str], text: str) -> None:
    stack.docker("run", "-d", "--rm", "--name", "web", "-m", "64m", "busybox", "sleep", "60")
    result = stack.docker("update", *args, "web", check=False)
    assert result.returncode != 0
    assert text in result.stderr


def test_the_restart_policy_changes(stack: Any) -> None:
    stack.docker("create", "--name", "web", "busybox", "true")
    assert stack.out("update", "--restart", "on-failure:3", "web") == "web"
    policy = json.loads(stack.out("inspect", "-f", "{{json .HostConfig.RestartPolicy}}", "web"))
    assert policy == {"Name": "on-failure", "MaximumRetryCount": 3}
