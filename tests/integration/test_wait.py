"""docker wait."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.root


def test_wait_answers_when_the_container_ends(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "waited", "busybox", "sh", "-c", "sleep 1; exit 4")
    assert stack.out("wait", "waited") == "4"


def test_several_in_the_order_they_were_named(stack: Any) -> None:
    for name, code in (("one", 1), ("two", 2)):
        stack.docker("run", "-d", "--name", name, "busybox", "sh", "-c", f"exit {code}")
    assert stack.out("wait", "two", "one") == "2\n1"


def test_of_one_that_never_ran_and_of_none(stack: Any) -> None:
    stack.docker("create", "--name", "made", "busybox", "true")
    assert stack.out("wait", "made") == "0"
    result = stack.docker("wait", "nobody", check=False)
    assert (result.returncode, result.stderr) == (1, "Error response from daemon: No such container: nobody\n")
