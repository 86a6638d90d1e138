"""A crowd of containers of every kind, and what must be true of each whatever has happened to the stack meanwhile."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.conftest import until
from tests.outliving.host import SETTLE, Host

__all__ = ["Crowd", "Member"]

COUNT = "n=0; while :; do n=$((n + 1)); echo $n; sleep 1; done"
LISTEN = "while :; do echo -e 'HTTP/1.0 200 OK\\r\\n\\r\\nhello' | nc -l -p 80 >/dev/null; done"
LASTING = {
    "steady": ["busybox", "sh", "-c", COUNT],
    "healthy": ["--health-cmd=true", "--health-interval=1s", "busybox", "sleep", "1000000"],
    "sick": ["--health-cmd=false", "--health-interval=1s", "--health-retries=1", "busybox", "sleep", "1000000"],
    "always": ["--restart=always", "busybox", "sleep", "1000000"],
    "published": ["-p", "127.0.0.1::80", "busybox", "sh", "-c", LISTEN],
    "writer": ["-v", "{name}:/data", "busybox", "sh", "-c", "while :; do date +%s > /data/now; sleep 1; done"],
    "lonely": ["--network=none", "busybox", "sleep", "1000000"],
}


@dataclass
class Member:
    """A container that lasts: ``pid`` is its init from its start to the end of the test."""

    name: str
    kind: str
    id: str
    pid: int
    code: int = 0  # that it ends with, if it ends by itself
    seen: int = field(default=0, compare=False)  # ends that were seen already

    @property
    def on_bridge(self) -> bool:
        return self.kind != "lonely"


class Crowd:
    """``members`` run; ``ending`` are those that end by themselves while nobody looks, with codes that are known."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.members: list[Member] = []
        self.ending: list[Member] = []
        self._number = 0

    def add(self, kind: str) -> Member:
        self._number += 1
        name = f"{kind}{self._number}"
        words = [word.format(name=name) if word.startswith("{name}") else word for word in LASTING[kind]]
        container = self.host.out("run", "-d", "--name", name, *words)
        member = Member(name, kind, container, self.host.state(container)["Pid"])
        self.members.append(member)
        return member

    def add_many(self, count: int) -> None:
        kinds = list(LASTING)
        for number in range(count):
            self.add(kinds[number % len(kinds)])

    # -- those that end

    def let_end(self, seconds: float, code: int, *flags: str) -> Member:
        """Start one that ends after ``seconds``; with ``--rm`` it is gone then."""
        self._number += 1
        name = f"ends{self._number}"
        script = f"sleep {seconds}; exit {code}"
        container = self.host.out("run", "-d", "--name", name, *flags, "busybox", "sh", "-c", script)
        kind = flags[0] if flags else "ends"
        member = Member(name, kind, container, 0, code)
        self.ending.append(member)
        return member

    def check_ended(self) -> None:
        """Wait for all that were to end, check how they did, and remove them."""
        for member in self.ending:
            if member.kind == "--rm":
                until(lambda id_=member.id: self.host.inspect(id_) is None, SETTLE, f"{member.name} is not removed")
                expected = [str(member.code)]
            elif member.kind.startswith("--restart=on-failure:"):
                ends = int(member.kind.rpartition(":")[2]) + 1
                self._await(member, lambda shown, n=ends: shown["RestartCount"] == n - 1)
                expected = [str(member.code)] * ends
            else:
                self._await(member, lambda shown: True)
                expected = [str(member.code)]
            told = self.host.deaths(member.id)
            assert told == expected, f"{member.name} ({member.kind}): the events tell of {told}, not of {expected}"
            if member.kind != "--rm":
                self.host.docker("rm", member.name)
        self.ending.clear()

    def _await(self, member: Member, condition: Callable[[Any], bool]) -> None:
        def ended() -> bool:
            shown = self.host.inspect(member.id)
            assert shown is not None, f"{member.name} is gone"
            return shown["State"]["Status"] == "exited" and condition(shown)

        until(ended, SETTLE, f"{member.name} does not end: {self.host.inspect(member.id)}")
        state = self.host.state(member.id)
        assert state["ExitCode"] == member.code, f"{member.name}: {state}"

    # -- those that last

    def check(self) -> None:
        for member in self.members:
            assert Path(f"/proc/{member.pid}").exists(), f"{member.name} has died"
            state = self.host.state(member.id)
            assert state is not None, f"{member.name} is gone"
            shown = (state["Status"], state["Pid"], state["Restarting"])
            assert shown == ("running", member.pid, False), f"{member.name}: {state}"
            getattr(self, f"_check_{member.kind}", lambda member: None)(member)

    def _check_steady(self, member: Member) -> None:
        lines = [int(line) for line in self.host.docker("logs", member.id).stdout.split()]
        assert lines == list(range(1, len(lines) + 1)), f"{member.name}: its log has gaps: {lines}"
        until(lambda: len(self.host.docker("logs", member.id).stdout.split()) > len(lines), SETTLE, "it has stopped")

    def _check_healthy(self, member: Member) -> None:
        self._check_health(member, "healthy")

    def _check_sick(self, member: Member) -> None:
        self._check_health(member, "unhealthy")

    def _check_health(self, member: Member, wanted: str) -> None:
        """Health is known, and probes go on: the newest is not older than some intervals."""

        def is_so() -> bool:
            health = self.host.state(member.id)["Health"]
            return health["Status"] == wanted and bool(health["Log"]) and health["Log"][-1]["End"][:19] >= begun

        begun = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - 1))
        until(is_so, SETTLE, f"{member.name} is not {wanted}: {self.host.state(member.id)['Health']}")

    def _check_published(self, member: Member) -> None:
        port = self.host.inspect(member.id)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"]
        url = f"http://127.0.0.1:{port}/"
        script = f"import urllib.request as r; print(r.urlopen('{url}', timeout=2).read().decode(), end='')"
        fetch = [*self.host.enter, sys.executable, "-c", script]
        until(lambda: subprocess.run(fetch, capture_output=True, check=False).stdout == b"hello\n", SETTLE,
              f"{member.name} does not answer on port {port}")  # fmt: skip

    def _check_writer(self, member: Member) -> None:
        path = Path(self.host.inspect(member.id)["Mounts"][0]["Source"]) / "now"
        until(lambda: path.exists() and time.time() - float(path.read_text() or 0) < 5, SETTLE, f"{member.name}")

    @property
    def on_bridge(self) -> int:
        return sum(member.on_bridge for member in self.members)
