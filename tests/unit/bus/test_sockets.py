from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import zmq

from shared.bus import sockets

MANY = """
import resource
from shared.bus.sockets import dealer, zmq_context
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
made = [dealer(zmq_context(), "ipc:///nowhere") for _ in range(1500)]
print(len(made))
"""


def test_a_process_may_have_a_socket_for_each_of_its_threads() -> None:
    """ZeroMQ has 1,023 if it is not told."""
    out = subprocess.run([sys.executable, "-c", MANY], check=True, capture_output=True, text=True, timeout=30).stdout
    assert out == "1500\n"


def test_a_path_is_for_its_owner_alone(tmp_path: Path) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        mask = os.umask(0)
        try:
            sockets.bind(router, f"ipc://{tmp_path}/x.sock")
        finally:
            os.umask(mask)
        assert stat.S_IMODE((tmp_path / "x.sock").stat().st_mode) == 0o600
        assert router.getsockopt(zmq.MAXMSGSIZE) == 16 << 20
