"""Streams over the API: exec from request to end, bytes through an attachment, a log read; ours and the peers'.

``python -m tests.bench.streams [--rounds 5] [--mebibytes 512]``: on a stack of its own, so that it needs none. No
docker command is timed, only requests. Engines in turn; ratios above 1 are in our favour.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.bench.engines import Engine, engines
from tests.conformance.stage import running_stack

__all__ = ["main"]

EXECS = 15  # in a round
LINES = 1_000_000  # of 100 bytes
CHUNK = 1 << 20


class _Connection(http.client.HTTPConnection):
    def __init__(self, engine: Engine) -> None:
        super().__init__("docker", timeout=120)
        self._path = str(engine.api)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def ask(self, method: str, target: str, body: Any = None) -> Any:
        """Return what is answered, decoded. Errors: RuntimeError."""
        encoded = None if body is None else json.dumps(body)
        self.request(method, target, body=encoded, headers={"Content-Type": "application/json"} if encoded else {})
        response = self.getresponse()
        text = response.read()
        if response.status >= 400:
            raise RuntimeError(f"{target}: {response.status} {text.decode()}")
        return json.loads(text) if text else None

    def hijack(self, target: str, body: Any = None) -> None:
        """Have the connection's bytes from now on."""
        encoded = json.dumps(body).encode() if body is not None else b""
        head = f"POST {target} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(encoded)}\r\n\r\n"
        if self.sock is None:
            self.connect()
        self.sock.sendall(head.encode() + encoded)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            if not (byte := self.sock.recv(1)):
                raise RuntimeError(f"{target}: closed")
            answer += byte
        if not answer.startswith((b"HTTP/1.1 101", b"HTTP/1.1 200")):
            raise RuntimeError(f"{target}: {answer.decode()}")

    def count(self) -> int:
        """Read to the end; returns how many bytes came."""
        total, buffer = 0, bytearray(CHUNK)
        while size := self.sock.recv_into(buffer):
            total += size
        return total


@contextmanager
def _container(engine: Engine, command: list[str], **host_config: Any) -> Iterator[tuple[_Connection, str]]:
    """Podman's default limits are above what a machine without CAP_SYS_RESOURCE may set."""
    limited = ("nofile", "nproc") if engine.name == "podman" else ()
    with_limits = {"Ulimits": [{"Name": name, "Soft": 1024, "Hard": 1024} for name in limited]}
    connection = _Connection(engine)
    body = {"Image": "busybox", "Cmd": command, "AttachStdout": True, "HostConfig": {**with_limits, **host_config}}
    container = connection.ask("POST", "/v1.41/containers/create", body)["Id"]
    try:
        yield connection, container
    finally:
        connection.ask("DELETE", f"/v1.41/containers/{container}?force=1")
        connection.close()


def exec_ms(engine: Engine, _: int) -> float:
    """Return the median of: create, start attached, read to the end, inspect."""
    taken = []
    with _container(engine, ["sleep", "1000"], NetworkMode="none") as (connection, container):
        connection.ask("POST", f"/v1.41/containers/{container}/start")
        for _number in range(EXECS):
            began = time.perf_counter()
            asked = {"Cmd": ["true"], "AttachStdout": True, "AttachStderr": True}
            made = connection.ask("POST", f"/v1.41/containers/{container}/exec", asked)["Id"]
            stream = _Connection(engine)
            stream.hijack(f"/v1.41/exec/{made}/start", {"Detach": False, "Tty": False})
            stream.count()
            stream.close()
            taken.append(time.perf_counter() - began)
            if connection.ask("GET", f"/v1.41/exec/{made}/json")["ExitCode"] != 0:
                raise RuntimeError(f"{engine.name}: an exec failed")
    return statistics.median(taken) * 1000


def attach_rate(engine: Engine, mebibytes: int) -> float:
    """Return MB/s from the start of ``dd`` to the end of the attachment; no log is written."""
    script = f"dd if=/dev/zero bs=1M count={mebibytes} 2>/dev/null"
    settings = {"NetworkMode": "none", "LogConfig": {"Type": "none"}}
    with _container(engine, ["sh", "-c", script], **settings) as (connection, container):
        stream = _Connection(engine)
        stream.hijack(f"/v1.41/containers/{container}/attach?stream=1&stdout=1")
        connection.ask("POST", f"/v1.41/containers/{container}/start")
        began = time.perf_counter()
        count = stream.count()
        seconds = time.perf_counter() - began
        stream.close()
    if not mebibytes << 20 <= count < (mebibytes << 20) * 1.01:
        raise RuntimeError(f"{engine.name}: {count} bytes of {mebibytes} MiB came out")
    return (mebibytes << 20) / 1e6 / seconds


def logs_rate(engine: Engine, _: int) -> float:
    """Return MB/s of a log of 100 MB."""
    line = "x" * 99
    script = f"yes {line} | head -n {LINES}"
    with _container(engine, ["sh", "-c", script], NetworkMode="none") as (connection, container):
        connection.ask("POST", f"/v1.41/containers/{container}/start")
        connection.ask("POST", f"/v1.41/containers/{container}/wait")
        began = time.perf_counter()
        connection.request("GET", f"/v1.41/containers/{container}/logs?stdout=1")
        response, total = connection.getresponse(), 0
        while chunk := response.read1(CHUNK):
            total += len(chunk)
        seconds = time.perf_counter() - began
    return total / 1e6 / seconds


CASES: dict[str, tuple[Callable[[Engine, int], float], bool]] = {  # title → measure, whether more is better
    "exec true, ms": (exec_ms, False),
    "attach, MB/s": (attach_rate, True),
    "logs of 100 MB, MB/s": (logs_rate, True),
}


def main(found: list[Engine], rounds: int, mebibytes: int) -> None:
    """Print a table: a line for each thing, a column for each engine."""
    print("\nstreams over the API" + " " * 14 + "".join(f"{engine.name:>14}" for engine in found))
    for title, (measure, more) in CASES.items():
        samples: dict[str, list[float]] = {engine.name: [] for engine in found}
        for _ in range(rounds):
            for engine in found:
                samples[engine.name].append(measure(engine, mebibytes))
        medians = {name: statistics.median(values) for name, values in samples.items()}
        ours = medians["dockyard"]
        ratios = [f"{ours / peer if more else peer / ours:.2f} of {name}" for name, peer in medians.items()][1:]
        columns = "".join(f"{median:14.1f}" for median in medians.values())
        print(f"  {title:32}{columns}", *ratios, sep="   ", flush=True)


def _own() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mebibytes", type=int, default=512)
    arguments = parser.parse_args()
    with running_stack() as stack, ExitStack() as peers:
        main(engines(peers, stack.run / "docker.sock"), arguments.rounds, arguments.mebibytes)


if __name__ == "__main__":
    _own()
