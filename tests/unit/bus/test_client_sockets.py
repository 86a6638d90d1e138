"""A client's sockets: one for each thread, as long as the thread lives."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from shared.bus.client import Client
from shared.protocol import Ping, Unavailable

CALLERS = 20


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def ask(client: Client) -> None:
    with pytest.raises(Unavailable):
        client.call(Ping(), timeout=0.01)


def test_a_thread_that_ends_leaves_no_socket(tmp_path: Path) -> None:
    """Nor does it need another that comes after it."""
    with closing(Client(f"ipc://{tmp_path}/nobody.sock", "test")) as client:
        ask(client)  # ours stays; the first starts what all sockets share
        before = descriptors()
        asked, go = threading.Barrier(CALLERS + 1), threading.Event()

        def call() -> None:
            ask(client)
            asked.wait(60)
            go.wait(60)

        threads = [threading.Thread(target=call) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        asked.wait(60)
        assert descriptors() >= before + CALLERS
        go.set()
        for thread in threads:
            thread.join()
        deadline = time.monotonic() + 60
        while descriptors() > before:  # ZeroMQ's own thread closes them
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_client_that_was_closed_may_be_used_again(tmp_path: Path) -> None:
    client = Client(f"ipc://{tmp_path}/nobody.sock", "test")
    for _ in range(3):
        ask(client)
        client.close()
    with closing(client):
        ask(client)
        ask(client)
