"""Requests made of the specification by schemathesis, to a live stack: no bug, and no answer that breaks the contract.

`make test` asks one of those that are about things, `make conformance` many (EXAMPLES=…); each is given
`PATIENCE` for its answer, since there are endless ones.
"""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.integration.api import Connection, request
from tests.integration.conftest import Stack
from tests.specification.schemas import document, operations, violations

pytestmark = pytest.mark.root

EXAMPLES = int(os.environ.get("EXAMPLES", "0"))
PATIENCE = 1.0  # seconds
SCHEMA = schemathesis.openapi.from_dict(document())
OPERATIONS = {f"{one.method} {one.path}": one for one in operations()}
REAL = {  # what is there, by the first part of a path
    "containers": ["web", "never"], "images": ["busybox"], "networks": ["net"], "volumes": ["vol"],
}  # fmt: skip


@schemathesis.serializer("application/x-tar")
def tar(_context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    made = Stack(Path(mkdtemp(prefix="dy", dir="/tmp")))
    made.start()
    made.dockyard("busybox")
    try:
        yield made
        assert "Traceback" not in made.log(), made.log()[made.log().index("Traceback") - 300 :][:3000]
        prepare(made)
        for _ in range(2):  # networks are in use as long as containers are
            made.docker("rm", "-fv", *made.out("ps", "-aq").split(), check=False)
            made.docker("network", "prune", "-f")
            made.prune_volumes()
    finally:
        made.close()


def prepare(stack: Stack) -> None:
    """Have what requests may be about, whatever those before have done to it."""
    if request(stack, "GET", "/images/busybox/json")[0] == 404:
        stack.dockyard("busybox")
    there = request(stack, "GET", "/containers/json?all=1")[1]
    names = {name for container in there for name in container["Names"]}
    for name, body in (("web", {"OpenStdin": True}), ("never", {})):
        if f"/{name}" not in names:
            request(stack, "POST", f"/containers/create?name={name}", {"Image": "busybox", "Cmd": ["cat"], **body})
    request(stack, "POST", "/containers/web/start")
    request(stack, "POST", "/containers/web/unpause")
    request(stack, "POST", "/volumes/create", {"Name": "vol"})
    request(stack, "POST", "/networks/create", {"Name": "net"})


def ask(stack: Stack, asked: requests.PreparedRequest) -> tuple[int, str, bytes] | None:
    """Return status, content type and body; None of a stream that has not ended, or a connection taken over."""
    connection = Connection(stack)
    try:
        connection.connect()
        connection.sock.settimeout(PATIENCE)
        data = asked.body.encode() if isinstance(asked.body, str) else asked.body
        connection.request(asked.method or "", asked.path_url, data, dict(asked.headers))
        answer = connection.getresponse()
        kind = answer.headers.get("Content-Type", "")
        if answer.status == 101 or kind.startswith("application/vnd.docker"):
            return None
        body, deadline = b"", time.monotonic() + PATIENCE
        while piece := answer.read1():
            body += piece
            if time.monotonic() > deadline:
                return None
        return answer.status, kind, body
    except TimeoutError:
        return None
    except BrokenPipeError:  # it was refused before it was read
        return None
    finally:
        connection.close()


def sendable(case: Any) -> requests.PreparedRequest | None:
    """Return a request as it is sent; None if it cannot be made one (a header with a line's end, …)."""
    try:
        asked = requests.Request(**case.as_transport_kwargs(base_url="http://docker/v1.51")).prepare()
        http.client.HTTPConnection("x")._validate_path(asked.path_url)  # type: ignore[attr-defined]
        return asked
    except (ValueError, http.client.InvalidURL, requests.RequestException):
        return None


CORE = [name for name, one in OPERATIONS.items() if one.path.split("/")[1] in REAL]


@pytest.mark.parametrize("name", OPERATIONS if EXAMPLES else CORE)
def test_every_answer_is_the_specifications(stack: Stack, name: str) -> None:
    one = OPERATIONS[name]
    real = REAL.get(one.path.split("/")[1], [])
    prepare(stack)

    @settings(
        max_examples=EXAMPLES or 1, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=SCHEMA[one.path][one.method].as_strategy(), there=st.sampled_from([*real, ""]))
    def check(case: Any, there: str) -> None:
        for parameter in case.path_parameters or {}:
            if there:
                case.path_parameters[parameter] = there
        asked = sendable(case)
        answer = ask(stack, asked) if asked is not None else None
        if answer is None:
            return
        status, kind, body = answer
        assert status != 500 or b"internal error" not in body, (asked.path_url, asked.body, body)
        assert not (wrong := violations(one.method, asked.path_url, status, kind, body)), (asked.body, wrong)

    check()
