"""The texts that clients match, each provoked over the API: status and message exactly as Docker has them.

The texts are moby's (of daemon/: errors.go, container/view.go, start.go, delete.go, exec.go, archive.go,
containerd/image_delete.go, volume/service/errors.go, server/middleware/version.go).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.api import Connection, request
from tests.integration.conftest import Stack, until

pytestmark = pytest.mark.root


def call(stack: Any, method: str, path: str, body: Any = None, text: str = "") -> tuple[int, str]:
    """Return status and message; ``text``: a body as it is."""
    connection = Connection(stack)
    with contextlib.closing(connection):
        headers = {"Content-Type": "application/json"} if body is not None or text else {}
        connection.request(method, path, text or (json.dumps(body) if body is not None else None), headers)
        answer = connection.getresponse()
        data = answer.read().decode()
        if answer.getheader("Content-Type") != "application/json":
            return answer.status, data.strip()
        return answer.status, json.loads(data)["message"] if answer.status >= 400 else ""


def state(stack: Any, name: str) -> Any:
    return request(stack, "GET", f"/containers/{name}/json")[1]["State"]


@pytest.fixture(scope="module")
def world(shared_stack: Stack) -> Iterator[dict[str, str]]:
    """Containers in each state, named after it; what the rows of the table may refer to."""
    stack = shared_stack
    ids = {
        "running": stack.out("run", "-d", "--name", "running", "busybox", "sleep", "600"),
        "created": stack.out("create", "--name", "created", "busybox", "true"),
        "paused": stack.out("run", "-d", "--name", "paused", "busybox", "sleep", "600"),
        "restarting": stack.out(
            "run", "-d", "--name", "restarting", "--restart", "always", "busybox", "sh", "-c", "sleep 0.5; false"
        ),
        "readonly": stack.out("create", "--name", "readonly", "--read-only", "busybox", "true"),
        "publisher": stack.out("run", "-d", "--name", "publisher", "-p", "8091:80", "busybox", "sleep", "600"),
        "second": stack.out("create", "--name", "second", "-p", "8091:80", "busybox", "true"),
        "user": stack.out("create", "--name", "user", "-v", "data:/data", "busybox", "true"),
    }
    stack.docker("run", "--name", "ended", "busybox", "true")
    stack.docker("commit", "ended", "of-a-stopped-one:1")
    stack.docker("create", "--name", "of-stopped", "of-a-stopped-one:1", "true")
    stack.docker("tag", "of-a-stopped-one:1", "twice:1")
    stack.docker("commit", "ended", "once:1")
    stack.docker("create", "--name", "of-once", "once:1", "true")
    stack.docker("pause", "paused")
    ids["ran"] = request(stack, "POST", "/containers/running/exec", {"Cmd": ["true"]})[1]["Id"]
    assert call(stack, "POST", f"/exec/{ids['ran']}/start", {"Detach": True})[0] == 200
    until(lambda: request(stack, "GET", f"/exec/{ids['ran']}/json")[1]["ExitCode"] is not None)
    for name in ("busybox", "once", "twice"):
        tag = "latest" if name == "busybox" else "1"
        ids[f"image {name}"] = stack.out("inspect", "-f", "{{.Id}}", f"{name}:{tag}")[7:19]
    ids["of-once"] = stack.out("inspect", "-f", "{{.Id}}", "of-once")
    until(lambda: state(stack, "restarting")["Restarting"])
    yield ids
    stack.docker("unpause", "paused")
    stack.docker("rm", "-f", *stack.out("ps", "-aq").split())
    stack.docker("volume", "rm", "data")


IN_USE = (
    'Conflict. The container name "/running" is already in use by container "{running}". You have to remove (or '
    "rename) that container to be able to reuse that name."
)
RUNNING = "container is running: stop the container before removing or force remove"
RESTARTING = "container is restarting: stop the container before removing or force remove"
NOT_RUNNING = "container {created} is not running"
NAME = "Invalid container name ({}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
TOO_OLD = (
    "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer "
    "version"
)
IMAGE = {"Image": "busybox"}
SELF_REMOVING = {**IMAGE, "HostConfig": {"AutoRemove": True, "RestartPolicy": {"Name": "always"}}}
TWO_NETWORKS = {**IMAGE, "NetworkingConfig": {"EndpointsConfig": {"a": {}, "b": {}}}}
NO_CONTAINER = (404, "No such container: nope")
NO_EXEC = (404, "No such exec instance: nope")
NO_VOLUME = (404, "get nope: no such volume")
NO_PATH = (404, "Could not find the file /nope in container running")
BAD_FILTER = "/json?filters=%7B%22colour%22:%5B%22x%22%5D%7D"

ROWS: list[tuple[str, str, Any, int, str]] = [
    # versions and routes
    ("GET", "/v1.23/_ping", None, 400, TOO_OLD),
    ("GET", "/v1.99/_ping", None, 400, "client version 1.99 is too new. Maximum supported API version is 1.51"),
    ("GET", "/nothing", None, 404, "page not found"),
    ("DELETE", "/_ping", None, 404, "page not found"),
    # what is not there
    *(("GET", f"/containers/nope/{what}", None, *NO_CONTAINER) for what in (
        "json", "top", "logs?stdout=1", "changes", "stats", "export", "archive?path=/",
    )),
    *(("POST", f"/containers/nope/{verb}", None, *NO_CONTAINER) for verb in (
        "start", "stop", "restart", "pause", "unpause", "wait", "attach?stream=1", "resize?h=1&w=1", "update",
        "rename?name=other", "exec",
    )),
    ("DELETE", "/containers/nope", None, *NO_CONTAINER),
    ("PUT", "/containers/nope/archive?path=/", None, *NO_CONTAINER),
    ("POST", "/commit?container=nope", None, *NO_CONTAINER),
    ("GET", "/exec/nope/json", None, *NO_EXEC),
    ("POST", "/exec/nope/start", {}, *NO_EXEC),
    ("POST", "/exec/nope/resize?h=1&w=1", None, *NO_EXEC),
    ("GET", "/volumes/nope", None, *NO_VOLUME),
    ("DELETE", "/volumes/nope", None, *NO_VOLUME),
    ("GET", "/networks/nope", None, 404, "network nope not found"),
    ("GET", "/images/nope/json", None, 404, "No such image: nope:latest"),
    ("GET", "/images/nope:3/history", None, 404, "No such image: nope:3"),
    ("GET", "/images/a/b:3/json", None, 404, "No such image: a/b:3"),
    ("DELETE", "/images/nope", None, 404, "No such image: nope:latest"),
    ("POST", "/images/nope/tag?repo=x", None, 404, "No such image: nope:latest"),
    ("POST", "/containers/create", {"Image": "nope"}, 404, "No such image: nope:latest"),
    # names
    ("POST", "/containers/create?name=running", IMAGE, 409, IN_USE),
    ("POST", "/containers/create?name=/running", IMAGE, 409, IN_USE),
    ("POST", "/containers/created/rename?name=running", None, 409, IN_USE),
    ("POST", "/containers/created/rename?name=", None, 400, "Neither old nor new names may be empty"),
    ("POST", "/containers/created/rename?name=created", None, 400,
     "Renaming a container with the same name as its current name"),
    ("POST", "/containers/created/rename?name=a", None, 400, NAME.format("a")),
    ("POST", "/containers/create?name=a", IMAGE, 400, NAME.format("a")),
    ("POST", "/containers/create?name=-ab", IMAGE, 400, NAME.format("-ab")),
    ("POST", "/containers/create?name=a/b", IMAGE, 400, NAME.format("a/b")),
    ("POST", "/containers/create?name=a%20b", IMAGE, 400, NAME.format("a b")),
    # states
    ("POST", "/containers/running/start", None, 304, ""),
    ("POST", "/containers/created/stop", None, 304, ""),
    ("POST", "/containers/paused/start", None, 409, "cannot start a paused container, try unpause instead"),
    ("POST", "/containers/created/kill", None, 409, f"cannot kill container: created: {NOT_RUNNING}"),
    ("POST", "/containers/nope/kill", None, 404, "cannot kill container: nope: No such container: nope"),
    ("POST", "/containers/created/pause", None, 409, NOT_RUNNING),
    ("POST", "/containers/created/resize?h=1&w=1", None, 409, NOT_RUNNING),
    ("POST", "/containers/created/exec", {"Cmd": ["true"]}, 409, NOT_RUNNING),
    ("GET", "/containers/created/top", None, 409, NOT_RUNNING),
    ("POST", "/containers/paused/pause", None, 409, "Container {paused} is already paused"),
    ("POST", "/containers/running/unpause", None, 409, "Container {running} is not paused"),
    ("POST", "/containers/paused/exec", {"Cmd": ["true"]}, 409,
     "Container {paused} is paused, unpause the container before exec"),
    ("POST", "/containers/restarting/exec", {"Cmd": ["true"]}, 409,
     "Container {restarting} is restarting, wait until the container is running"),
    ("GET", "/containers/restarting/top", None, 409,
     "Container {restarting} is restarting, wait until the container is running"),
    ("POST", "/containers/running/kill?signal=NOPE", None, 400, "cannot kill container: running: Invalid signal: NOPE"),
    ("POST", "/containers/running/wait?condition=never", None, 400, 'invalid condition: "never"'),
    ("DELETE", "/containers/running", None, 409, f'cannot remove container "running": {RUNNING}'),
    ("DELETE", "/containers/paused", None, 409,
     'cannot remove container "paused": container is paused and must be unpaused first'),
    ("DELETE", "/containers/restarting", None, 409, f'cannot remove container "restarting": {RESTARTING}'),
    # requests
    ("POST", "/containers/running/start", {"Binds": ["/:/x"]}, 400,
     "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"),
    ("POST", "/containers/create", SELF_REMOVING, 400, "can't create 'AutoRemove' container with restart policy"),
    ("POST", "/v1.43/containers/create", TWO_NETWORKS, 400,
     "Container cannot be created with multiple network endpoints: a, b"),
    ("POST", "/containers/create", {**IMAGE, "WorkingDir": "a"}, 400,
     "the working directory 'a' is invalid, it needs to be an absolute path"),
    ("GET", "/containers" + BAD_FILTER, None, 400, "invalid filter 'colour'"),
    ("GET", "/images" + BAD_FILTER, None, 400, "invalid filter 'colour'"),
    ("GET", BAD_FILTER.replace("/json", "/volumes"), None, 400, "invalid filter 'colour'"),
    ("GET", BAD_FILTER.replace("/json", "/networks"), None, 400, "invalid filter 'colour'"),
    ("POST", "/containers/running/attach?stream=1&detachKeys=nope", None, 400, "Invalid detach keys (nope) provided"),
    ("GET", "/containers/running/logs", None, 400, "must specify at least one of 'stdout' or 'stderr'"),
    # execs
    ("POST", "/containers/running/exec", {"Cmd": []}, 400, "No exec command specified"),
    ("POST", "/containers/running/exec", {}, 400, "No exec command specified"),
    ("POST", "/exec/{ran}/start", {"Detach": True}, 409, "exec command {ran} has already run"),
    ("POST", "/exec/{ran}/start", {}, 409, "exec command {ran} has already run"),
    # images
    ("DELETE", "/images/busybox", None, 409,
     "conflict: unable to delete busybox:latest (must be forced) - container {running:.12} is using its referenced "
     "image {image busybox}"),
    ("DELETE", "/images/{image busybox}", None, 409,
     "conflict: unable to delete {image busybox} (cannot be forced) - image has dependent child images"),
    ("DELETE", "/images/{image once}", None, 409,
     "conflict: unable to delete {image once} (must be forced) - image is being used by stopped container "
     "{of-once:.12}"),
    ("DELETE", "/images/once:1", None, 409,
     "conflict: unable to delete once:1 (must be forced) - container {of-once:.12} is using its referenced image "
     "{image once}"),
    ("DELETE", "/images/{image twice}", None, 409,
     "conflict: unable to delete {image twice} (must be forced) - image is referenced in multiple repositories"),
    # volumes
    ("DELETE", "/volumes/data", None, 409, "remove data: volume is in use - [{user}]"),
    ("POST", "/volumes/create", {"Name": "a"}, 400,
     "create a: volume name is too short, names should be at least two alphanumeric characters"),
    ("POST", "/volumes/create", {"Name": "a/b"}, 400,
     'create a/b: "a/b" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are '
     "allowed. If you intended to pass a host directory, use absolute path"),
    # archives
    ("GET", "/containers/running/archive?path=/nope", None, *NO_PATH),
    ("PUT", "/containers/running/archive?path=/nope", None, *NO_PATH),
    ("PUT", "/containers/running/archive?path=/etc/passwd", None, 400, "extraction point is not a directory"),
    ("PUT", "/containers/readonly/archive?path=/", None, 400, "container rootfs is marked read-only"),
]  # fmt: skip


def test_every_text(shared_stack: Stack, world: dict[str, str]) -> None:
    wrong = []
    for method, path, body, status, message in ROWS:
        if "restarting" in path:
            until(lambda: not state(shared_stack, "restarting")["Restarting"], 90)
            until(lambda: state(shared_stack, "restarting")["Restarting"])
        found = call(shared_stack, method, path.format_map(world), body)
        # of several containers of an image any may be named
        wanted = status, message.format_map(world)
        if found != wanted and not (message.count("is using") and _alike(found, wanted)):
            wrong.append(f"{method} {path}: {found} is not {wanted}")
    assert not wrong, "\n".join(wrong)


def _alike(found: tuple[int, str], wanted: tuple[int, str]) -> bool:
    """Compare but for the id of a container."""
    beside = [
        (status, text.partition(" - container ")[0], text.partition(" is using ")[2])
        for status, text in (found, wanted)
    ]
    return beside[0] == beside[1]


def test_a_document_and_more(shared_stack: Stack) -> None:
    found = call(shared_stack, "POST", "/containers/create", text='{"Image": "busybox"} {}')
    assert found == (400, "unexpected content after JSON")


def test_a_port_that_is_taken(shared_stack: Stack, world: dict[str, str]) -> None:
    """The container stays as it was, and starts when the port is free."""
    status, message = call(shared_stack, "POST", "/containers/second/start")
    begin, _, end = message.partition("(")
    assert (status, begin) == (500, "driver failed programming external connectivity on endpoint second ")
    assert end[64:] == "): Bind for 0.0.0.0:8091 failed: port is already allocated"
    assert state(shared_stack, "second")["Status"] == "created"
    shared_stack.docker("rm", "-f", "publisher")
    assert call(shared_stack, "POST", "/containers/second/start") == (204, "")


def test_a_prefix_of_two_ids(shared_stack: Stack) -> None:
    """Of seventeen, two begin with the same digit."""
    ids = [request(shared_stack, "POST", "/containers/create", IMAGE)[1]["Id"] for _ in range(17)]
    digit = next(digit for digit in "0123456789abcdef" if sum(one.startswith(digit) for one in ids) > 1)
    found = call(shared_stack, "GET", f"/containers/{digit}/json")
    assert found == (400, f"multiple IDs found with provided prefix: {digit}")
    shared_stack.docker("rm", *ids)
