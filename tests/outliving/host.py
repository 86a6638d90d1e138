"""A stack on a network of its own that outlives the stack, as a host's does; and what it has taken of that host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

from shared.bus.client import Client
from shared.bus.sockets import engine_endpoint
from shared.protocol import DockyardError, ListServices
from tests.integration.api import request
from tests.integration.conftest import Stack, cgroup_directories, command_line, descendants, processes, until

__all__ = ["DRIVERS", "SERVICES", "Host"]

DRIVERS = ("graphdriver", "netdriver", "execdriver")
SERVICES = ("engine", "reader", *DRIVERS, "apiserver")
RESTART_WINDOW, RESTARTS = 60.0, 8  # seconds; unasked ends of one service that the arbiter puts up with, and some less
GRACE = 1.0  # seconds that streams may go on of an API process that is replaced
SETTLE = 30.0  # seconds in which all must be as it was


class Host(Stack):
    """``netns`` holds the network namespace, as the init of a host would."""

    def __init__(self, directory: Path, **environ: str) -> None:
        super().__init__(directory, **{"DOCKYARD_STREAM_GRACE": str(GRACE), **environ})
        self.netns = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        mine = Path("/proc/self/ns/net").readlink()
        until(lambda: Path(f"/proc/{self.netns.pid}/ns/net").readlink() != mine)
        self.enter = ["nsenter", f"--net=/proc/{self.netns.pid}/ns/net"]
        self._ends: dict[str, list[float]] = {}

    def close(self) -> None:
        try:
            super().close()
        finally:
            self.netns.kill()
            self.netns.wait()

    # -- what is done to it

    def may_end(self, service: str) -> bool:
        """Say whether one more unasked end of a service is within what the arbiter puts up with."""
        since = time.monotonic() - RESTART_WINDOW
        recent = self._ends[service] = [when for when in self._ends.get(service, []) if when > since]
        return len(recent) < RESTARTS

    def kill(self, service: str) -> None:
        """Kill -9 a service; of several API processes each time another one."""
        pids = until(lambda: self.pids(service), SETTLE, f"there is no {service}")
        ends = self._ends.setdefault(service, [])
        ends.append(time.monotonic())
        victim = pids[len(ends) % len(pids)]
        family = [victim, *descendants(victim)]  # the worker of an API process follows it, in its own time
        _signal(victim, signal.SIGKILL)
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family), SETTLE, f"{service} does not end")

    def restart(self, service: str) -> None:
        """`dockyard restart`; returns when those that are replaced have gone, with the streams that they carried."""
        before = self.pids(service)
        self.dockyard("restart", service)
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in before), GRACE + SETTLE, f"{service} stays")

    def freeze(self, service: str, seconds: float) -> None:
        """SIGSTOP and, after some time, SIGCONT; blocks."""
        assert self.process is not None
        pids = [self.process.pid] if service == "arbiter" else self.pids(service)
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            for pid in pids:
                _signal(pid, signal.SIGCONT)

    def down(self) -> None:
        """`dockyard down`: the containers live on."""
        assert self.process is not None
        self.dockyard("down")
        self.process.wait(60)
        self.notify.close()

    def up(self) -> None:
        self.notifications.clear()
        self._ends.clear()
        self.start()

    def lose_arbiter(self) -> None:
        """Kill -9 the arbiter: its children go with it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.notify.close()
        until(lambda: not self.services_left(), 20, "services outlive their arbiter")

    def services_left(self) -> list[int]:
        """Return the processes of this stack that serve, whosever children they are."""
        mark = f"DOCKYARD_RUN={self.run}".encode()
        return [pid for pid in processes() if "services." in command_line(pid) and mark in _environ(pid)]

    # -- what it says

    def api(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return request(self, method, path, body)

    def inspect(self, ref: str) -> Any:
        """Return what there is to know of a container, None if there is none."""
        status, shown = self.api("GET", f"/containers/{ref}/json")
        assert status in (200, 404), shown
        return shown if status == 200 else None

    def state(self, ref: str) -> Any:
        shown = self.inspect(ref)
        return shown["State"] if shown else None

    def deaths(self, container: str) -> list[str]:
        """Return the exit codes that the events tell of a container's ends, oldest first."""
        filters = ["--filter", f"container={container}", "--filter", "event=die"]
        lines = self.out("events", "--since", "0", "--until", str(time.time()), *filters, "--format", "{{json .}}")
        return [json.loads(line)["Actor"]["Attributes"]["exitCode"] for line in lines.splitlines()]

    def is_whole(self) -> bool:
        """Say whether all services are there and answer."""
        if self.ended():
            return False
        bus = Client(engine_endpoint(self.run), "test")
        try:
            names = {entry.service for entry in bus.call(ListServices(), timeout=5) if entry.ready and entry.silent < 2}
        finally:
            bus.close()
        return {*DRIVERS, "apiserver"} <= names and self.api("GET", "/version")[0] == 200

    def wait_whole(self) -> None:
        until(lambda: _quietly(self.is_whole), SETTLE, "the stack does not come back")

    # -- what it holds

    def held(self) -> dict[str, set[str]]:
        """Return what the kernel and the run directory have of this stack's containers, by kind; execs with them."""
        return {
            "netns": {path.name for path in (self.run / "netns").glob("*")},
            "bundles": {path.name for path in (self.run / "containers").glob("*")},
            "exits": {path.name for path in (self.run / "exits").glob("*")},
            "execs": {path.name for path in (self.run / "execs").glob("*")},
            "leases": {path.stem for path in (self.run / "leases").glob("*")},
            "oci": {path.name for path in (self.run / "oci").glob("*")},
            "cgroups": {p.name for top in cgroup_directories(self.cgroup) for p in top.iterdir() if p.is_dir()},
            "mounts": {mount for mount in self._mounts() if "/layers/" in mount or "/overlay" in mount},
            "links": self.links("veth"),
            "bridges": self.links("bridge") - {self.environ["DOCKYARD_BRIDGE"]},
            "networks": {path.name for path in (self.run / "networks").glob("*")},
            "monitors": {str(pid) for pid in processes() if self._is_monitor(pid)},
        }

    def links(self, kind: str) -> set[str]:
        shown = subprocess.run(
            [*self.enter, "ip", "-j", "link", "show", "type", kind], capture_output=True, check=True
        ).stdout
        return {link["ifname"] for link in json.loads(shown or b"[]")}

    def _is_monitor(self, pid: int) -> bool:
        words = command_line(pid)
        return words.startswith(("/usr/bin/conmon", "conmon")) and str(self.run) in words

    def check_leaks(self, on_bridge: int, alive: int, execs: int) -> None:
        """Check that all that is held belongs to the containers that run: ``alive``, ``on_bridge`` of them."""
        wanted = {
            "netns": alive, "bundles": alive, "exits": 0, "execs": execs, "leases": alive, "oci": alive,
            "cgroups": alive, "links": on_bridge, "monitors": alive + execs,
            "bridges": 0, "networks": 0,
        }  # fmt: skip

        def differences() -> dict[str, Any]:
            held = self.held()
            wrong = {name: count for name, count in wanted.items() if len(held[name]) != count}
            return {name: (sorted(entry[:12] for entry in held[name]), count) for name, count in wrong.items()}

        _until_none(differences)


def _until_none(differences: Callable[[], dict[str, Any]]) -> None:
    deadline = time.monotonic() + SETTLE
    while found := differences():
        assert time.monotonic() < deadline, f"held, wanted: {found}"
        time.sleep(0.2)


def _quietly(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except (OSError, ValueError, DockyardError, HTTPException):
        return False


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
