"""A stack as shipped, on a host of its own: directories, cgroup, bridge and network namespace that no other has.

At the end nothing of it may be left: processes, mounts, links, namespaces, cgroups.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

BOOT_TIMEOUT = 60.0  # seconds
DOCKYARD = str(Path(sys.executable).parent / "dockyard")


def until(condition: Callable[[], Any], timeout: float = 15.0, what: str = "it did not happen") -> Any:
    """Poll until ``condition`` is true; returns its value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return value


class Stack:
    """One `dockyard up` in the foreground, inside a network namespace of its own."""

    def __init__(self, directory: Path, **environ: str) -> None:
        self.directory, self.root, self.run = directory, directory / "root", directory / "run"
        self.cgroup = f"/dockyard-test-{os.getpid()}-{directory.name}"
        self.environ = {
            **os.environ,
            "DOCKYARD_ROOT": str(self.root),
            "DOCKYARD_RUN": str(self.run),
            "DOCKYARD_BRIDGE": "dytest0",
            "DOCKYARD_BIP": "10.213.0.1/24",
            "DOCKYARD_CGROUP_PARENT": self.cgroup,
            "DOCKER_HOST": f"unix://{self.run}/docker.sock",
            "DOCKER_CONFIG": str(directory / "docker-config"),
            "DOCKYARD_CERTS_DIR": str(directory / "certs.d"),
            **environ,
        }
        self.arguments: list[str] = []  # of `dockyard up`
        self.kept_images = {"busybox"}  # by `clean`
        self.enter = ["unshare", "--net"]  # what brings it into its network namespace
        self.notifications: list[tuple[int, str]] = []  # (pid of the sender, text)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Stack:
        """Start, and wait for READY=1 on a notify socket of our own."""
        self.launch()
        return self.await_ready()

    def await_ready(self) -> Stack:
        until(lambda: self.said("READY=1") or self.ended(), BOOT_TIMEOUT, f"not ready: {self.log()[-2000:]}")
        assert self.said("READY=1"), self.log()[-3000:]
        return self

    def restart(self) -> Stack:
        """Stop, and start again on the same host: in the same network namespace."""
        assert self.process is not None
        namespace = os.open(f"/proc/{self.process.pid}/ns/net", os.O_RDONLY)
        try:
            self.stop()
            self.notifications.clear()
            self.launch(namespace)
            return self.await_ready()
        finally:
            os.close(namespace)

    def launch(self, namespace: int | None = None) -> None:
        """``namespace``: an open network namespace to start in, else a new one."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        path = self.directory / "notify"
        path.unlink(missing_ok=True)
        self.notify.bind(str(path))
        threading.Thread(target=self._listen, args=(self.notify,), daemon=True).start()
        script = 'ip link set lo up; exec "$@"'
        own = self.enter if namespace is None else ["nsenter", f"--net=/proc/self/fd/{namespace}"]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(self.enter if namespace is None else own),
                    "sh",
                    "-c",
                    script,
                    "sh",
                    DOCKYARD,
                    "up",
                    *self.arguments,
                ],
                env={**self.environ, "NOTIFY_SOCKET": str(path)},
                stdin=subprocess.DEVNULL,
                pass_fds=() if namespace is None else (namespace,),
                stdout=log,
                stderr=log,
            )

    def _listen(self, notify: socket.socket) -> None:
        while True:
            try:
                data, control, _, _ = notify.recvmsg(4096, 256)
            except OSError:
                return
            pid = next(
                (int.from_bytes(d[:4], sys.byteorder) for level, _, d in control if level == socket.SOL_SOCKET), 0
            )
            self.notifications += [(pid, line) for line in data.decode().splitlines()]

    def said(self, text: str) -> bool:
        return any(line == text for _, line in self.notifications)

    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    # -- what a user does

    def docker(self, *args: str, check: bool = True, timeout: float = 60, **options: Any) -> Any:
        result = subprocess.run(
            ["docker", *args], env=self.environ, capture_output=True, text=True, timeout=timeout, check=False, **options
        )
        assert not check or result.returncode == 0, f"docker {' '.join(args)}: {result.returncode} {result.stderr}"
        return result

    def out(self, *args: str) -> str:
        return str(self.docker(*args).stdout).strip()

    @functools.cached_property
    def client(self) -> int:
        """The docker command's major version."""
        return int(self.out("version", "-f", "{{.Client.Version}}").partition(".")[0])

    def needs(self, client: int, flag: str) -> None:
        """Skip the test for want of a docker command that has ``flag``; other tests have what is behind it."""
        if self.client < client:
            pytest.skip(f"docker {self.client} has no {flag}")

    def missing(self, kind: str, name: str, said: str) -> str:
        """Return how the docker command tells a 404: in the daemon's words, or before 23 in its own."""
        return f"Error: No such {kind}: {name}" if self.client < 23 else f"Error response from daemon: {said}"

    def prune_volumes(self) -> None:
        """Remove all volumes that no container has; before 23 there is no --all, and all is meant."""
        self.docker("volume", "prune", "-f", *(["--all"] if self.client >= 23 else []))

    def dockyard(self, *args: str, check: bool = True, **options: Any) -> Any:
        result = subprocess.run(
            [DOCKYARD, *args], env=self.environ, capture_output=True, text=True, timeout=60, check=False, **options
        )
        assert not check or result.returncode == 0, f"dockyard {' '.join(args)}: {result.returncode} {result.stderr}"
        return result

    def pids(self, service: str) -> list[int]:
        """Return the stack's processes of a service: the arbiter's children, and what these forked of themselves."""
        assert self.process is not None
        module = {"reader": "services.engine.reader", "dns": "services.netdriver.dns"}.get(
            service, f"services.{service}"
        )
        return [pid for pid in descendants(self.process.pid) if module in command_line(pid).split()]

    def parts(self) -> set[tuple[str, int]]:
        """Return the arbiter and what it runs after circus.ini: (service, pid)."""
        shown = self.dockyard("ps", "--json", check=False)
        rows = json.loads(shown.stdout) if not shown.returncode else []
        return {(row["service"], row["pid"]) for row in rows if row["service"] != "forkserver"}

    # -- the end

    def clean(self) -> None:
        """Remove all that a test may have made, but `kept_images`."""
        if ids := self.out("ps", "-aq").split():
            self.docker("rm", "-fv", *ids)
        if volumes := self.out("volume", "ls", "-q").split():
            self.docker("volume", "rm", *volumes)
        images = [
            line.split() for line in self.out("images", "-a", "--format", "{{.Repository}} {{.Tag}}").splitlines()
        ]
        if named := [f"{name}:{tag}" for name, tag in images if name not in self.kept_images and tag != "<none>"]:
            self.docker("rmi", "-f", *named)
        self.docker("image", "prune", "-f")  # each with what it was made of

    def forget(self) -> None:
        """Remove all that the tests of a module have made, and fail if they have left anything of a container."""
        self.clean()
        self.docker("network", "prune", "-f")
        for name in ("docker-config", "certs.d"):
            shutil.rmtree(self.directory / name, ignore_errors=True)
        left = [str(path) for name in ("netns", "containers", "exits") for path in (self.run / name).glob("*")]
        assert not left, f"left behind: {left}"

    def stop(self) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self.notify.close()

    def close(self) -> None:
        """Remove all containers, stop, and fail if anything is left."""
        if not self.ended():
            ids = self.out("ps", "-aq").split()
            if ids:
                self.docker("rm", "-f", *ids)
            self.stop()
        left = self.leftovers()
        self.tidy()
        assert not left, f"left behind: {left}"

    def tidy(self) -> None:
        """Remove what a stack may leave: the cgroup above all containers, mounts, its directories."""
        for path in cgroup_directories(self.cgroup):
            self._empty(path)
            path.rmdir()
        for mount in self._mounts():
            subprocess.run(["umount", "--lazy", mount], check=True)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _empty(self, cgroup: Path) -> None:
        """End the containers that a stack which died under its test could not remove."""
        for child in (entry for entry in cgroup.iterdir() if entry.is_dir()):
            for pid in (child / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            until(lambda child=child: not (child / "cgroup.procs").read_text())
            child.rmdir()

    def _mounts(self) -> list[str]:
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        return [mount for mount in mounts if mount.startswith(str(self.directory))]

    def leftovers(self) -> list[str]:
        left = self._mounts()
        left += [str(path) for top in cgroup_directories(self.cgroup) for path in top.iterdir() if path.is_dir()]
        for name in ("netns", "containers", "exits", "leases", "networks", "volumes"):
            left += [str(path) for path in (self.run / name).glob("*")]
        left += [f"process {pid}" for pid in processes() if str(self.directory) in command_line(pid)]
        return left


def cgroup_directories(path: str) -> list[Path]:
    """Return the directories of a cgroup, in each hierarchy of v1, or the one of v2."""
    root = Path("/sys/fs/cgroup")
    tops = [root] if (root / "cgroup.controllers").exists() else [entry for entry in root.iterdir() if entry.is_dir()]
    return [top / path.lstrip("/") for top in tops if (top / path.lstrip("/")).is_dir()]


def processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for other in processes():
        try:
            parent = int(Path(f"/proc/{other}/stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        parents.setdefault(parent, []).append(other)
    found, pending = [], [pid]
    while pending:
        children = parents.get(pending.pop(), [])
        found += children
        pending += children
    return found


@pytest.fixture
def new_stack() -> Iterator[Callable[..., Stack]]:
    """Make stacks that are not started yet; each is closed at the end of the test."""
    made: list[Stack] = []

    def make(**environ: str) -> Stack:
        made.append(Stack(Path(tempfile.mkdtemp(prefix="dy", dir="/tmp")), **environ))
        return made[-1]

    yield make
    for stack in made:
        if stack.process is not None:
            stack.close()
        else:
            stack.tidy()


@pytest.fixture(scope="session")
def calm() -> Iterator[list[Stack]]:
    """The stack, if there is one, of which no part has ended yet."""
    kept: list[Stack] = []
    yield kept
    for stack in kept:
        stack.close()


@pytest.fixture(scope="module")
def shared_stack(calm: list[Stack]) -> Iterator[Stack]:
    """A stack for the tests of a module. The next module goes on with it, unless these have ended a part of it."""
    if not calm:
        stack = Stack(Path(tempfile.mkdtemp(prefix="dy", dir="/tmp"))).start()
        stack.dockyard("busybox")
        calm.append(stack)
    (stack,) = calm
    parts = stack.parts()
    yield stack
    if stack.ended() or stack.parts() != parts:
        calm.clear()
        stack.close()
    else:
        stack.forget()


@pytest.fixture
def stack(shared_stack: Stack) -> Iterator[Stack]:
    """The stack that the tests of a module share; each leaves it with one image, and without containers and volumes."""
    yield shared_stack
    shared_stack.clean()


@pytest.fixture
def net(stack: Stack) -> Iterator[Stack]:
    """The shared stack; each test leaves it without networks."""
    yield stack
    ids = stack.out("ps", "-aq").split()
    if ids:
        stack.docker("rm", "-f", *ids)
    for name in stack.out("network", "ls", "--filter", "type=custom", "--format", "{{.Name}}").split():
        stack.docker("network", "rm", name)
