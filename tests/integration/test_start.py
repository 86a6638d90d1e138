"""docker start."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.root


def test_several_print_their_names_and_one_that_runs_is_no_error(stack: Any) -> None:
    for name in ("one", "two"):
        stack.docker("create", "--name", name, "busybox", "sleep", "1000")
    assert stack.out("start", "one", "two") == "one\ntwo"
    assert stack.out("start", "one") == "one"


def test_attached_with_input_and_exit_code(stack: Any) -> None:
    stack.docker("create", "-i", "--name", "web", "busybox", "sh", "-c", "cat; echo err >&2; exit 5")
    for text in ("first\n", "again\n"):
        result = stack.docker("start", "-ai", "web", input=text, check=False)
        assert (result.stdout, result.stderr, result.returncode) == (text, "err\n", 5)


def test_of_none_the_others_start(stack: Any) -> None:
    stack.docker("create", "--name", "made", "busybox", "sleep", "1000")
    result = stack.docker("start", "nobody", "made", check=False)
    assert (result.returncode, result.stdout) == (1, "made\n")
    assert "Error response from daemon: No such container: nobody" in result.stderr
    assert "failed to start containers: nobody" in result.stderr


def test_one_that_cannot_run_stays_created(stack: Any) -> None:
    stack.docker("create", "--name", "web", "busybox", "nonesuch")
    result = stack.docker("start", "web", check=False)
    assert (result.returncode, '"nonesuch": executable file not found in $PATH' in result.stderr) == (1, True)
    shown = stack.out("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", "web")
    assert shown.startswith("created 127 ")


def test_of_a_paused_one(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    stack.docker("pause", "web")
    result = stack.docker("start", "web", check=False)
    assert (result.returncode, "cannot start a paused container, try unpause instead" in result.stderr) == (1, True)
