"""Lives: one container's way from its creation to its removal, each step of which something may befall.

A step that was acknowledged has happened, once. One that was not has happened or has not, and can be asked for again.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.conftest import until
from tests.outliving.host import SETTLE, Host

__all__ = ["STEPS", "Life"]

SCRIPT = """
echo once >> /told/starts
trap 'echo usr1 >> /told/signals' USR1
trap 'exit 5' TERM
while :; do sleep 0.1; done
"""
STEPS = (
    "volume", "network", "create", "start", "connect", "exec", "signal", "pause", "unpause", "update", "run", "rename",
    "restart", "disconnect", "stop", "start2", "kill", "rm", "network-rm", "volume-rm",
)  # fmt: skip
COUNTED = {"starts": ("start", "restart", "start2"), "execs": ("exec",), "signals": ("signal",), "runs": ("run",)}
VISIT = "echo run >> /told/runs; echo said; exit 9"
CODES = {"exec": 7, "run": 9}  # what docker ends with when a step has worked; else 0
LIMIT = 60.0  # seconds that a step may take


class Life:
    """``told``: a directory of the host in which the container leaves word of what it has lived through."""

    def __init__(self, host: Host, number: int) -> None:
        self.host, self.name, self.second = host, f"life{number}", f"second{number}"
        self.volume, self.network, self.visitor = f"life{number}", f"life{number}", f"visitor{number}"
        self.told = host.directory / "told" / self.name
        self.told.mkdir(parents=True)
        self.starts = self.signals = self.execs = self.runs = 0
        self.ref = self.name

    def begin(self, step: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            ["docker", *self._words(step)], env=self.host.environ, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe,
            text=True,
        )  # fmt: skip

    def _words(self, step: str) -> list[str]:
        mounts = ["-v", f"{self.told}:/told", "-v", f"{self.volume}:/data"]
        # fmt: off
        return {
            "volume": ["volume", "create", self.volume],
            "network": ["network", "create", "--ipv6", self.network],
            "create": [
                "create", "--name", self.name, "--network", self.network, *mounts, "-p", "127.0.0.1::80", "busybox",
                "sh", "-c", SCRIPT,
            ],
            "connect": ["network", "connect", "bridge", self.name],
            "start": ["start", self.name],
            "exec": ["exec", self.name, "sh", "-c", "echo exec >> /told/execs; echo said; exit 7"],
            "signal": ["kill", "-s", "USR1", self.name],
            "pause": ["pause", self.name],
            "unpause": ["unpause", self.name],
            "update": ["update", "--pids-limit", "77", self.name],
            "run": [
                "run", "--rm", "-i", "--name", self.visitor, "-v", f"{self.told}:/told", "busybox", "sh", "-c", VISIT,
            ],
            "rename": ["rename", self.name, self.second],
            "restart": ["restart", "-t", "5", self.second],
            "disconnect": ["network", "disconnect", "bridge", self.second],
            "stop": ["stop", "-t", "5", self.second],
            "start2": ["start", self.second],
            "kill": ["kill", self.second],
            "rm": ["rm", self.second],
            "network-rm": ["network", "rm", self.network],
            "volume-rm": ["volume", "rm", self.volume],
        }[step]
        # fmt: on

    def end(self, step: str, process: subprocess.Popen[str], *, excused: bool, twice: bool) -> str:
        """Wait for a step and check it; returns what it was refused with, which must be excused.

        ``excused``: what carried the request has gone, so it may have failed; then it is done again if it had to.
        ``twice``: a process that had begun may have been undone and made again.
        """
        try:
            out, error = process.communicate(timeout=LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise AssertionError(f"{step} hangs") from None
        acknowledged = process.returncode == CODES.get(step, 0)
        assert acknowledged or excused, f"{step}: {process.returncode} {out} {error}"
        self.ref = (
            self.second if step in ("rename", "restart", "disconnect", "stop", "start2", "kill", "rm") else self.name
        )
        if not acknowledged:
            self.host.wait_whole()
            if step == "run":  # who asked for four things in a row has gone in the middle of them
                until(self._has_no_visitor, SETTLE, "it cannot be removed")
            elif not self._is_so(step):
                self._again(step)
                twice = True
        if step in CODES and acknowledged:
            assert out == "said\n" or (twice and "said" in out), (step, out, error)
        until(
            lambda: self._is_so(step) or (step == "run" and not acknowledged),
            SETTLE,
            f"{step}: not so though acknowledged={acknowledged}: {self._shown()}",
        )
        self._count(step, exactly=acknowledged and not twice)
        return "" if acknowledged else error

    def _has_no_visitor(self) -> bool:
        self.host.docker("rm", "-f", self.visitor, check=False)
        return self.host.inspect(self.visitor) is None

    def _shown(self) -> Any:
        shown = self.host.inspect(self.ref)
        return shown and shown["State"]

    def _again(self, step: str) -> None:
        """What was not acknowledged and did not happen works when it is asked for again; it may happen meanwhile."""
        deadline = time.monotonic() + SETTLE
        while True:
            done = self.host.docker(*self._words(step), check=False)
            if done.returncode == CODES.get(step, 0) or self._is_so(step):
                return
            assert time.monotonic() < deadline, f"{step} again: {done.returncode} {done.stderr}"
            time.sleep(0.2)

    def _is_so(self, step: str) -> bool:
        return bool(self._checks()[step]())

    def _checks(self) -> dict[str, Callable[[], Any]]:
        def state(ref: str) -> Any:
            return self.host.state(ref) or {"Status": "gone", "ExitCode": None}

        def volume() -> bool:
            return self.host.api("GET", f"/volumes/{self.volume}")[0] == 200

        def network() -> bool:
            return self.host.api("GET", f"/networks/{self.network}")[0] == 200

        def networks(ref: str) -> set[str]:
            shown = self.host.inspect(ref)
            places = shown["NetworkSettings"]["Networks"] if shown else {}
            return {name for name, place in places.items() if place["IPAddress"]}

        return {
            "volume": volume,
            "network": network,
            "create": lambda: state(self.name)["Status"] == "created",
            "start": lambda: state(self.name)["Status"] == "running" and self._lines("starts") > self.starts,
            "connect": lambda: networks(self.name) == {"bridge", self.network},
            "exec": lambda: self._lines("execs") > self.execs,
            "signal": lambda: self._lines("signals") > self.signals,
            "pause": lambda: state(self.name)["Status"] == "paused",
            "unpause": lambda: state(self.name)["Status"] == "running",
            "update": lambda: self.host.inspect(self.name)["HostConfig"]["PidsLimit"] == 77,
            "run": lambda: self._lines("runs") > self.runs and self.host.inspect(self.visitor) is None,
            "rename": lambda: self.host.inspect(self.second) is not None,
            "restart": lambda: state(self.second)["Status"] == "running" and self._lines("starts") > self.starts,
            "disconnect": lambda: networks(self.second) == {self.network},
            "stop": lambda: (state(self.second)["Status"], state(self.second)["ExitCode"]) == ("exited", 5),
            "start2": lambda: state(self.second)["Status"] == "running" and self._lines("starts") > self.starts,
            "kill": lambda: (state(self.second)["Status"], state(self.second)["ExitCode"]) == ("exited", 137),
            "rm": lambda: self.host.inspect(self.second) is None,
            "network-rm": lambda: not network(),
            "volume-rm": lambda: not volume(),
        }

    def _count(self, step: str, *, exactly: bool) -> None:
        """Check that what was acknowledged happened once; note how often all has happened until now."""
        for word, steps in COUNTED.items():
            now = self._lines(word)
            if exactly:
                due = getattr(self, word) + (step in steps)
                assert now == due, f"{step}: {word} were {getattr(self, word)}, are {now}"
            setattr(self, word, now)

    def _lines(self, word: str) -> int:
        path = Path(self.told / word)
        return len(path.read_text().splitlines()) if path.exists() else 0
