"""docker create; its flags are those of run (test_run_flags.py)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root


def test_it_prints_the_id_and_starts_nothing(stack: Any, tmp_path: Path) -> None:
    container = stack.out("create", "--cidfile", str(tmp_path / "cid"), "busybox", "echo", "on")
    assert re.fullmatch("[0-9a-f]{64}", container)
    assert (tmp_path / "cid").read_text() == container
    shown = json.loads(stack.out("inspect", container))[0]
    assert (shown["State"]["Status"], shown["State"]["Pid"], shown["Path"], shown["Args"]) == (
        "created",
        0,
        "echo",
        ["on"],
    )
    assert re.fullmatch("/[a-z]+_[a-z0-9_-]+", shown["Name"])
    assert stack.docker("start", "-a", container).stdout == "on\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--name", "b@d", "busybox"], "Invalid container name (b@d), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
        (["--name", "x", "busybox"], "Invalid container name (x)"),
        (["-w", "relative", "busybox"], "the working directory 'relative' is invalid, it needs to be an absolute path"),
        (["--pull", "never", "nonesuch"], "No such image: nonesuch:latest"),
        (["-m", "1m", "busybox"], "Minimum memory limit allowed is 6MB"),
        (["--restart", "always", "--rm", "busybox"], "onflicting options"),
        (["-v", "/a:relative", "busybox"], "mount path must be absolute"),
    ],
)  # fmt: skip
def test_refusals_leave_nothing(stack: Any, args: list[str], said: str) -> None:
    result = stack.docker("create", *args, "true", check=False)
    assert (result.returncode != 0, said in result.stderr) == (True, True), result.stderr
    assert stack.out("ps", "-aq") == stack.out("volume", "ls", "-q") == ""
