"""docker commit."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from tests.integration.conftest import until

pytestmark = pytest.mark.root


@pytest.fixture
def image(stack: Any) -> Any:
    """The name for the image of a test, which has gone after it."""
    yield "example/made:1"
    stack.docker("rmi", "-f", "example/made:1", check=False)


def config(stack: Any, image: str) -> Any:
    return json.loads(stack.out("inspect", "-f", "{{json .Config}}", image))


def test_what_was_changed_is_in_the_image(stack: Any, image: str) -> None:
    stack.docker("run", "--name", "web", "-e", "A=1", "busybox", "sh", "-c", "echo mine > /f; rm /etc/group")
    made = stack.out("commit", "-m", "the message", "-a", "An Author <a@example.com>", "web", image)
    shown = json.loads(stack.out("inspect", image))[0]
    assert (shown["Id"], shown["Comment"], shown["Author"]) == (made, "the message", "An Author <a@example.com>")
    assert shown["Parent"] == stack.out("inspect", "-f", "{{.Id}}", "busybox")
    assert len(shown["RootFS"]["Layers"]) == 2
    assert "A=1" in shown["Config"]["Env"]
    assert stack.out("run", "--rm", image, "cat", "/f") == "mine"
    assert stack.docker("run", "--rm", image, "ls", "/etc/group", check=False).returncode == 1
    assert stack.out("history", "--format", "{{.Comment}}", image).splitlines()[0] == "the message"


def test_changes(stack: Any, image: str) -> None:
    stack.docker("create", "--name", "web", "--label", "a=1", "busybox", "sleep", "1000")
    changes = [
        'CMD ["echo", "changed"]', "ENTRYPOINT []", "ENV B=2 C=3", "EXPOSE 80 53/udp", "LABEL b=2", "USER 12:34",
        "VOLUME /data", "WORKDIR /tmp", "STOPSIGNAL SIGINT", "HEALTHCHECK --interval=5s CMD true",
    ]  # fmt: skip
    stack.docker("commit", *[word for change in changes for word in ("-c", change)], "web", image)
    shown = config(stack, image)
    assert (shown["Cmd"], shown.get("Entrypoint"), shown["User"]) == (["echo", "changed"], None, "12:34")
    assert {"B=2", "C=3"} <= set(shown["Env"])
    assert (set(shown["ExposedPorts"]), shown["Labels"]) == ({"80/tcp", "53/udp"}, {"a": "1", "b": "2"})
    assert (shown["Volumes"], shown["WorkingDir"], shown["StopSignal"]) == ({"/data": {}}, "/tmp", "SIGINT")
    assert shown["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000}
    assert stack.out("run", "--rm", image) == "changed"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["-c", "RUN true", "web"], "run is not a valid change command"),
        (["-c", "CMD", "web"], "CMD requires at least one argument"),
        (["web", "example/Upper"], "must be lowercase"),
        (["web", "name@sha256:" + "0" * 64], "digest"),
        (["nobody"], "No such container: nobody"),
    ],
)
def test_refusals(stack: Any, args: list[str], said: str) -> None:
    stack.docker("create", "--name", "web", "busybox", "true")
    before = stack.out("images", "-aq")
    result = stack.docker("commit", *args, check=False)
    assert result.returncode == 1
    assert said in result.stderr
    assert stack.out("images", "-aq") == before


def paused_meanwhile(stack: Any, *options: str) -> tuple[bool, bool]:
    """Commit a container that runs; says whether it was paused at any moment, and whether it is after that."""
    done = threading.Thread(target=lambda: stack.docker("commit", *options, "web", "example/made:1"))
    done.start()
    seen = False
    while done.is_alive():
        seen |= stack.out("inspect", "-f", "{{.State.Paused}}", "web") == "true"
    done.join()
    return seen, stack.out("inspect", "-f", "{{.State.Paused}}", "web") == "true"


def test_a_pause_for_as_long_as_it_takes(stack: Any, image: str) -> None:
    script = "dd if=/dev/urandom of=/big bs=1M count=12; echo made; exec sleep 1000"
    stack.docker("run", "-d", "--name", "web", "busybox", "sh", "-c", script)
    until(lambda: stack.docker("logs", "web").stdout == "made\n")
    assert paused_meanwhile(stack) == (True, False)
    assert paused_meanwhile(stack, "--pause=false") == (False, False)
    stack.docker("pause", "web")
    assert paused_meanwhile(stack) == (True, True)  # who had paused it wakes it
    actions = stack.out("events", "--since", "1h", "--until", "0s", "-f", "event=commit", "--format", "{{json .Actor}}")
    assert json.loads(actions.splitlines()[-1])["Attributes"]["imageRef"] == image


def test_without_a_name(stack: Any) -> None:
    stack.docker("create", "--name", "web", "busybox", "true")
    made = stack.out("commit", "web")
    assert stack.out("inspect", "-f", "{{json .RepoTags}}", made) == "[]"
    stack.docker("rmi", made)
