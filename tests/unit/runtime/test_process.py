"""What every service's ``__main__`` does before it serves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from shared.runtime.parent import ARBITER

PROGRAM = "import sys; from shared.runtime.process import run; sys.exit(run('x', lambda *_: print('served')))"
STOPPED_EARLY = """
import os, signal, sys, threading
from shared.runtime.process import run
def serve(config, stop, on_stop):
    os.kill(os.getpid(), signal.SIGTERM)
    ended = threading.Event()
    on_stop(ended.set)
    print('ended' if ended.wait(5) else 'runs on')
sys.exit(run('x', serve))
"""


def served(tmp_path: Path, program: str = PROGRAM, **environ: str) -> str:
    environ = {**os.environ, "DOCKYARD_ROOT": str(tmp_path), "DOCKYARD_RUN": str(tmp_path), **environ}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=30).stdout


def test_a_process_whose_arbiter_died_before_it_could_ask_to_be_told_does_not_serve(tmp_path: Path) -> None:
    assert served(tmp_path) == "served\n"
    assert served(tmp_path, **{ARBITER: str(os.getpid())}) == "served\n"
    assert served(tmp_path, **{ARBITER: "1"}) == ""


def test_a_signal_that_comes_before_anybody_waits_for_it_is_not_lost(tmp_path: Path) -> None:
    assert served(tmp_path, STOPPED_EARLY) == "ended\n"
