"""Fifty containers of every kind, with sessions attached, outlive whatever befalls the processes of their stack.

Each step of a container's life is met by each process being killed, frozen and restarted; then the whole stack goes
and comes. The same by chance, and for long: `make outliving`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import until
from tests.outliving.host import SERVICES, Host
from tests.outliving.lives import STEPS
from tests.outliving.ordeal import Ordeal

pytestmark = pytest.mark.root

MEMBERS = 50
FROZEN = 0.4  # seconds


@pytest.fixture(scope="module")
def ordeal() -> Iterator[Ordeal]:
    host = Host(Path(tempfile.mkdtemp(prefix="dy", dir="/tmp"))).start()
    made = Ordeal(host, random.Random(0))
    try:
        host.dockyard("busybox")
        made.gather(MEMBERS)
        yield made
        made.check()
        made.end_sessions()
    finally:
        made.disperse()
        host.close()


@pytest.mark.parametrize("turn", [0, 3])
def test_a_process_is_killed_at_each_step(ordeal: Ordeal, turn: int) -> None:
    """In each turn another process goes at a step, and later in its course."""
    ordeal.let_some_end(spread=10)
    fates = {step: SERVICES[(n + turn) % len(SERVICES)] for n, step in enumerate(STEPS)}
    ordeal.live(lambda step: ("kill", fates[step], 0.01 + 0.02 * turn, 0.0))
    ordeal.check()


def test_a_process_is_frozen_at_each_step(ordeal: Ordeal) -> None:
    ordeal.let_some_end(spread=10)
    fates = {step: (*SERVICES, "arbiter")[n % (len(SERVICES) + 1)] for n, step in enumerate(STEPS)}
    ordeal.live(lambda step: ("freeze", fates[step], 0.01, FROZEN))
    ordeal.check()


def test_a_process_is_replaced_at_each_step(ordeal: Ordeal) -> None:
    fates = dict(zip(("create", "start", "exec", "restart", "stop", "rm"), SERVICES, strict=True))
    ordeal.live(lambda step: ("restart", fates[step], 0.02, 0.0) if step in fates else None)
    ordeal.check()


@pytest.mark.parametrize("service", ["engine", "execdriver"])
def test_one_that_is_frozen_for_long_is_given_up_and_taken_back(ordeal: Ordeal, service: str) -> None:
    """It is taken for dead after 5 s; what it had is asked again when it answers, and is not done twice."""
    fates = {"start": ("freeze", service, 0.0, 6.5)}
    ordeal.live(fates.get)
    ordeal.check()


@pytest.mark.parametrize("what", ["stack", "arbiter"])
def test_the_whole_stack_goes_and_comes(ordeal: Ordeal, what: str) -> None:
    """Some end while nothing watches: their codes are known, those to be removed are, those to run again do."""
    ordeal.let_some_end(spread=2)
    fates = {"start" if what == "stack" else "stop": ("kill", what, 0.05, 2.5)}
    ordeal.live(fates.get)
    ordeal.check()


def test_policies_over_a_new_stack_and_over_an_engine_alone(ordeal: Ordeal) -> None:
    host = ordeal.host
    for name in ("always", "unless-stopped"):
        host.docker("run", "-d", "--name", f"p-{name}", f"--restart={name}", "busybox", "sleep", "1000")
        host.docker("stop", "-t", "0", f"p-{name}")
    ordeal.befall("kill", "engine")
    assert [host.state(f"p-{name}")["Status"] for name in ("always", "unless-stopped")] == ["exited", "exited"]
    ordeal.befall("kill", "stack", 0.0)
    until(lambda: host.state("p-always")["Status"] == "running", 20)
    assert host.state("p-unless-stopped")["Status"] == "exited"
    host.docker("rm", "-f", "p-always", "p-unless-stopped")


def test_a_container_whose_monitor_is_killed_ends_with_137_and_an_error(ordeal: Ordeal) -> None:
    host = ordeal.host
    for flags, script in ((["-d"], "sleep 1000"), (["-d", "--restart=on-failure:1"], "sleep 1000")):
        host.docker("run", *flags, "--name", "lost", "busybox", "sh", "-c", script)
        pid = host.state("lost")["Pid"]
        os.kill(int((host.run / "containers" / host.inspect("lost")["Id"] / "monitor.pid").read_text()), signal.SIGKILL)
        waiting = subprocess.Popen(["docker", "wait", "lost"], env=host.environ, stdout=subprocess.PIPE, text=True)
        time.sleep(0.2)
        assert host.state("lost")["Pid"] == pid  # it lives on
        os.kill(pid, signal.SIGKILL)
        assert waiting.communicate(timeout=20)[0] == "137\n"
        if len(flags) == 1:
            assert host.state("lost")["ExitCode"] == 137
            assert host.state("lost")["Error"] == "the monitor was lost, and with it the exit status"
        else:  # and its policy is followed
            until(lambda: host.state("lost")["Status"] == "running")
        host.docker("rm", "-f", "lost")


def test_a_killed_worker_breaks_only_what_it_carries(ordeal: Ordeal) -> None:
    """Of two API processes one is killed: the sessions of the other answer."""
    host = ordeal.host
    carried = {pid: sessions_of(pid) for pid in host.pids("apiserver")}
    assert sum(carried.values()) == len(ordeal.sessions)
    victim = max(carried, key=lambda pid: carried[pid])
    os.kill(victim, signal.SIGKILL)
    host.wait_whole()
    assert ordeal.replace_broken_sessions() == carried[victim]


def sessions_of(pid: int) -> int:
    """Count the monitors' connections that a process holds: SOCK_SEQPACKET sockets."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]]
    sequenced = {row[6] for row in rows if row[4] == "0005"}
    found = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:
            continue
        found += target.startswith("socket:[") and target[8:-1] in sequenced
    return found
