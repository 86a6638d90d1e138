"""The shell's side of completion: bash's protocol, without a stack, in a process as the shell runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from shared.bus.sockets import engine_endpoint
from shared.protocol import catalogue

DOCKYARD = str(Path(sys.executable).parent / "dockyard")


@pytest.fixture
def run() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dy") as directory:
        yield Path(directory)


def complete(run: Path, line: str) -> list[str]:
    """Return what is offered for the last word of a command line."""
    environ = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1), "_DOCKYARD_COMPLETE": "complete_bash"}
    result = subprocess.run(
        [DOCKYARD],
        env={**os.environ, "DOCKYARD_RUN": str(run), **environ},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert result.stderr == ""
    return result.stdout.split()


def test_without_an_engine_jobs_come_from_the_catalogue(run: Path) -> None:
    assert complete(run, "dockyard job sto") == ["stop"]
    assert complete(run, "dockyard job ") == sorted(catalogue())
    assert complete(run, "dockyard job help imag") == [name for name in sorted(catalogue()) if name[:4] == "imag"]


def test_settings_are_those_of_the_job(run: Path) -> None:
    assert complete(run, "dockyard job create web --env Oom") == ["OomKillDisable=", "OomScoreAdj="]


def test_what_is_not_known_is_not_offered(run: Path) -> None:
    assert complete(run, "dockyard job kill ") == []
    assert complete(run, "dockyard job nonesuch ") == []


def test_an_engine_that_hangs_is_not_waited_for(run: Path) -> None:
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.bind(engine_endpoint(run))
    try:
        assert complete(run, "dockyard job sto") == ["stop"]
    finally:
        socket.close(0)
        context.term()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_for_the_shells(shell: str) -> None:
    environ = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # nobody knows who has started us
    command = [DOCKYARD, "--show-completion", shell]
    shown = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert "_DOCKYARD_COMPLETE=complete_" in shown.stdout
