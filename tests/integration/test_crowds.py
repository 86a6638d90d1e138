"""Many connections that do next to nothing: they cost a bounded amount of memory, and others do not notice them."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from tests.bench import crowds
from tests.integration.api import request
from tests.integration.conftest import Stack

pytestmark = pytest.mark.root

STREAMS = 50  # of each kind
KIB = 1 << 10
PROMPT = 20.0  # seconds in which others are answered, on a machine that does much besides
CALM, IDLE = 4.0, 0.15  # seconds; of a core, for all the streams (`make bench`: 0.1 for a thousand)
EACH_REQUEST, EACH_STREAM = 8 * KIB, 400 * KIB  # `make bench` has the real figures: 1, and 80 to 270


def server(stack: Stack) -> int:
    assert stack.process is not None
    return stack.process.pid


def assert_nobody_notices(stack: Stack) -> None:
    began = time.monotonic()
    for _ in range(8):  # the kernel spreads connections over the workers
        assert request(stack, "GET", "/containers/json")[0] == 200
    assert time.monotonic() - began < PROMPT
    assert stack.out("run", "--rm", "busybox", "echo", "here") == "here"


def test_ten_thousand_requests_that_never_end(stack: Stack) -> None:
    """Half of them say nothing, half send a byte a second."""
    count, before = crowds.most(), crowds.memory(server(stack))
    with crowds.connections(str(stack.run / "docker.sock"), count):
        assert_nobody_notices(stack)
        assert crowds.memory(server(stack)) - before < count * EACH_REQUEST
    assert_nobody_notices(stack)


def test_idle_streams_of_each_kind(stack: Stack) -> None:
    stack.docker("run", "-di", "--name", crowds.NAME, "busybox", "cat")
    before = crowds.memory(server(stack))
    with ExitStack() as opened:
        for _, method, target in crowds.KINDS:
            opened.enter_context(crowds.idle_streams(str(stack.run / "docker.sock"), STREAMS, method, target))
        assert_nobody_notices(stack)
        assert crowds.memory(server(stack)) - before < STREAMS * len(crowds.KINDS) * EACH_STREAM
        assert crowds.idle_load(server(stack), CALM) < IDLE
    assert_nobody_notices(stack)
