"""docker diff."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.root

CHANGES = "mkdir -p /a/b && echo x > /a/b/f && rm /etc/group && echo y >> /etc/passwd && touch /a/empty && rm -r /home"
SHOWN = ["A /a", "A /a/b", "A /a/b/f", "A /a/empty", "C /etc", "C /etc/passwd", "D /etc/group", "D /home"]


@pytest.fixture
def image(stack: Any) -> str:
    stack.docker("run", "--name", "maker", "busybox", "sh", "-c", "echo g > /etc/group; mkdir -p /home/me")
    stack.docker("commit", "maker", "withhome")
    return "withhome"


def test_what_was_added_changed_and_deleted(stack: Any, image: str) -> None:
    stack.docker("run", "--name", "web", image, "sh", "-c", CHANGES)
    assert sorted(stack.out("diff", "web").splitlines()) == SHOWN
    stack.docker("rmi", "-f", image)


def test_of_one_that_runs_or_is_paused(stack: Any) -> None:
    stack.docker("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    assert stack.out("diff", "web") == ""  # what the runtime makes to mount on is no change
    stack.docker("exec", "web", "touch", "/new")
    assert stack.out("diff", "web") == "A /new"
    stack.docker("pause", "web")
    assert stack.out("diff", "web") == "A /new"


def test_what_is_mounted_is_no_change(stack: Any) -> None:
    stack.docker("run", "--name", "web", "-v", "vol:/vol", "--tmpfs", "/t", "busybox", "touch", "/vol/x", "/t/x")
    assert not {"A /vol/x", "A /t/x"} & set(stack.out("diff", "web").splitlines())


def test_of_none(stack: Any) -> None:
    result = stack.docker("diff", "nobody", check=False)
    assert (result.returncode, result.stderr) == (1, "Error response from daemon: No such container: nobody\n")
