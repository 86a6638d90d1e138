"""What foreign suites run on: a stack of their own, and Python environments with what they want."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.conftest import Stack

__all__ = ["PROJECT", "environment", "run_inside", "running_stack"]

PROJECT = Path(__file__).parents[2]
KEPT = {"PATH", "LANG", "LC_ALL", "TERM"}  # of our environment


def environment(name: str, wanted: str, requirements: list[str], **environ: str) -> Path:
    """Return the Python of an environment ``.venv-NAME`` with ``requirements``; made again when ``wanted`` changes."""
    directory = PROJECT / f".venv-{name}"
    python, stamp = directory / "bin" / "python", directory / "installed"
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    print(f"installing {' '.join(Path(one).name for one in requirements)} into {directory.name}", flush=True)
    shutil.rmtree(directory, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True)
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    subprocess.run(command, env={**os.environ, **environ}, check=True)
    stamp.write_text(wanted)
    return python


@contextmanager
def running_stack(**settings: str) -> Iterator[Stack]:
    """A stack on a host of its own, as the integration tests have it; nothing of it may be left."""
    stack = Stack(Path(tempfile.mkdtemp(prefix="dy", dir="/tmp")), **settings)
    try:
        stack.start()
        stack.dockyard("busybox")
        yield stack
    finally:
        volumes = [] if stack.ended() else stack.out("volume", "ls", "-q").split()
        ids = [] if stack.ended() else stack.out("ps", "-aq").split()
        if ids:
            stack.docker("rm", "-f", *ids)
        if volumes:
            stack.docker("volume", "rm", "-f", *volumes)
        stack.close()


def run_inside(stack: Stack, command: list[str], directory: Path, home: Path, **environ: str) -> int:
    """Run a command in the stack's network namespace, with a home of its own; returns its exit status."""
    assert stack.process is not None
    (home / ".docker").mkdir(parents=True)
    (home / ".docker" / "config.json").write_text("{}")  # without one docker-py writes into its working directory
    kept = {name: value for name, value in os.environ.items() if name in KEPT}
    return subprocess.run(
        ["nsenter", f"--net=/proc/{stack.process.pid}/ns/net", *command],
        cwd=directory,
        env={
            **kept,
            "DOCKER_HOST": stack.environ["DOCKER_HOST"],
            "HOME": str(home),
            "PYTHONDONTWRITEBYTECODE": "1",
            **environ,
        },
        check=False,
    ).returncode
