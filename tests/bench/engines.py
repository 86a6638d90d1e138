"""The engines that the bench times: ours, and the peers that are installed.

Peers (Debian's docker.io and podman) are started by hand in a network namespace of their own, with their own data, and
given the same busybox image. What they keep is on the file system of what ours keeps.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

__all__ = ["Engine", "beside", "engines"]


class Engine:
    """``command``: the client's, as ``docker --host …``; ``options``: of its `run`; ``insecure``: of its `pull`.

    ``daemon``: the process that its others descend of, 0 if it has none; ``inside``: what enters its network.
    ``api``: its API's socket; ``server``: the process that serves it.
    """

    def __init__(self, name: str, command: list[str], options: list[str] | None = None, daemon: int = 0) -> None:
        self.name, self.command, self.options, self.daemon = name, command, options or [], daemon
        self.inside: list[str] = ["nsenter", "--net", "--target", str(daemon)] if daemon else []
        self.insecure: list[str] = []
        self.api, self.server = Path(), daemon

    def do(self, *words: str) -> None:
        subprocess.run([*self.command, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def run(self, *words: str) -> None:
        self.do("run", *self.options, *words)

    def bytes_of(self, *words: str) -> int:
        """Run a command and return how many bytes it wrote."""
        count = 0
        with subprocess.Popen([*self.command, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            while chunk := process.stdout.read1(1 << 20):  # type: ignore[attr-defined]
                count += len(chunk)
        return count


@contextmanager
def dockerd(directory: Path, data: Path) -> Iterator[tuple[list[str], int]]:
    """Run Debian's dockerd on its own ``data``; yields the client's command, and the daemon's pid."""
    host = f"unix://{directory}/docker.sock"
    daemon = ["dockerd", "--data-root", f"{data}/dockerd", "--exec-root", f"{directory}/exec", "--host", host]
    daemon += ["--pidfile", f"{directory}/pid", "--bridge", "none"] if not shutil.which("iptables") else []
    log = (directory / "dockerd.log").open("wb")
    script = f"ip link set lo up; exec {' '.join(daemon)} --pidfile {directory}/pid"
    process = subprocess.Popen(["unshare", "--net", "sh", "-c", script], stdout=log, stderr=log)
    try:
        client = ["docker", "--host", host]
        deadline = time.monotonic() + 60
        while subprocess.run([*client, "version"], capture_output=True, check=False).returncode:
            if time.monotonic() > deadline or process.poll() is not None:
                raise RuntimeError(f"dockerd does not start: {(directory / 'dockerd.log').read_text()[-500:]}")
            time.sleep(0.2)
        yield client, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        log.close()


def beside(stack: ExitStack, path: Path) -> Path:
    """Make a directory, for a while, on the file system of the images of the engine at the API socket ``path``."""
    command = ["docker", "--host", f"unix://{path}", "info", "--format", "{{.DockerRootDir}}"]
    root = Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    found = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dockyard-bench-", dir=root.parent)))
    if found.stat().st_dev != (root / "graph").stat().st_dev:
        raise RuntimeError(f"{root.parent} is not on the file system of {root}: the peers would have another disk")
    return found


def _end_those_of(directory: str) -> None:
    """End the monitors of podman's execs, which outlive them by minutes, by the directory that they were told of."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            if directory.encode() in path.read_bytes().split(b"\0"):
                os.kill(int(path.parent.name), signal.SIGKILL)


def engines(stack: ExitStack, path: Path) -> list[Engine]:
    """Return ours, at the API socket ``path``, and the peers; ``stack`` ends what was started."""
    directory, data = (
        Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dockyard-bench-"))),
        beside(stack, path),
    )
    arbiter = int((path.parent / "dockyard.pid").read_text())
    found = [Engine("dockyard", ["docker", "--host", f"unix://{path}"], daemon=arbiter)]
    found[0].api = path
    archive = str(directory / "busybox.tar")
    found[0].do("save", "-o", archive, "busybox")
    if shutil.which("dockerd"):
        try:
            client, pid = stack.enter_context(dockerd(directory, data))
            found.append(Engine("dockerd", client, daemon=pid))
            found[-1].api = directory / "docker.sock"
            found[-1].do("load", "-qi", archive)
        except (RuntimeError, OSError) as error:
            print(f"dockerd does not take part: {error}")
    if shutil.which("podman"):
        client = ["podman", "--root", f"{data}/podman", "--runroot", f"{directory}/podman-run"]
        client += ["--cgroup-manager", "cgroupfs", "--events-backend", "file"]
        stack.callback(_end_those_of, f"{directory}/podman-run")
        process = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", "ip link set lo up; exec sleep infinity"]
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        inside = ["nsenter", f"--net=/proc/{process.pid}/ns/net", f"--mount=/proc/{process.pid}/ns/mnt"]
        # its default limits are above what a machine without CAP_SYS_RESOURCE may set
        limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
        podman = Engine("podman", [*inside, *client], limits)
        podman.inside, podman.insecure = inside[:2], ["--tls-verify=false"]
        podman.api = directory / "podman.sock"
        time.sleep(0.5)
        service = subprocess.Popen([*podman.command, "system", "service", "--time=0", f"unix://{podman.api}"])
        stack.callback(service.wait)
        stack.callback(service.terminate)
        podman.server = service.pid
        podman.do("load", "-qi", archive)
        probe = subprocess.run(
            [*podman.command, "run", *limits, "--rm", "busybox", "true"], capture_output=True, text=True, check=False
        )
        if probe.returncode:
            print(f"podman does not take part: {probe.stderr.strip()[-300:]}")
        else:
            found.append(podman)
    return found
