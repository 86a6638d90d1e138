"""Turns: nobody begins before it has its turn, and nobody waits for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.runtime.turns import Turns, await_turn

WAITS = "import sys; from pathlib import Path; from shared.runtime.turns import await_turn\n" \
    "print('there', flush=True); await_turn(Path(sys.argv[1]), sys.argv[2]); print('begun', flush=True)"  # fmt: skip
HOLDS = "import sys; from pathlib import Path; from shared.runtime.turns import Turns\n" \
    "turns = Turns(Path(sys.argv[1]), ['one']); print('held', flush=True); sys.stdin.read()"  # fmt: skip


@pytest.fixture
def turns(tmp_path: Path) -> Turns:
    return Turns(tmp_path, ["one"])


@pytest.fixture
def waiting(tmp_path: Path, turns: Turns) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WAITS, str(tmp_path), "one"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield process
        process.kill()


def test_without_a_boot_nobody_waits(tmp_path: Path) -> None:
    await_turn(tmp_path, "one")
    turns = Turns(tmp_path, ["one", "two"])
    turns.give("one")
    await_turn(tmp_path, "one")
    turns.give("two")
    await_turn(tmp_path, "two")


def test_it_begins_when_it_has_its_turn(turns: Turns, waiting: subprocess.Popen[str]) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.2)
    turns.give("one")
    assert waiting.communicate(timeout=5) == ("begun\n", None)


def test_who_waits_can_be_ended(turns: Turns, waiting: subprocess.Popen[str]) -> None:
    waiting.terminate()
    assert waiting.wait(5) == -signal.SIGTERM
    turns.give("one")


def test_an_arbiter_that_dies_holds_nobody_up(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as arbiter:
        assert arbiter.stdout is not None
        assert arbiter.stdout.readline() == "held\n"
        os.kill(arbiter.pid, signal.SIGKILL)
    await_turn(tmp_path, "one")
