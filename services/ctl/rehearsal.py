"""Rehearsal: what is on disk is tried before anything that runs is given up for it."""

from __future__ import annotations

import configparser
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from circus.config import get_config

__all__ = ["CHECKED", "LISTENING", "rehearse"]

TIMEOUT = 60.0  # seconds of one program
SAY_STATUS = '"$@" 2>&1; echo "status=$?"'
LISTENING = "ARBITER_LISTENS_ON"  # the variable that tells `up --check` which addresses will be there already
CHECKED = "checked root={} run={}"  # what `up --check` prints


def rehearse(ini: Path, root: Path, run: Path, listening: Iterable[str], environ: Mapping[str, str]) -> str:
    """Return why the stack cannot be executed anew from what is on disk now, in one line; empty if it can.

    ``listening``: the addresses on which it listens.

    The configuration is checked by `dockyard up --check`, with the arguments that we were given; each program of
    circus.ini must be able to print its usage, for which it loads all it is made of.
    """
    variables = {**environ, LISTENING: " ".join(listening)}
    return _check_configuration(root, run, variables) or _check_programs(ini, environ)


def _check_configuration(root: Path, run: Path, environ: Mapping[str, str]) -> str:
    status, output = _run([sys.executable, *sys.orig_argv[1:], "--check"], environ)
    if status:
        return f"the configuration is refused: {_last_line(output)}"
    if CHECKED.format(root, run) not in output.splitlines():
        return "root and run cannot be changed while the stack runs"
    return ""


def _check_programs(ini: Path, environ: Mapping[str, str]) -> str:
    try:
        commands: Iterable[str] = dict.fromkeys(watcher["cmd"] for watcher in get_config(str(ini))["watchers"])
    except (OSError, ValueError, KeyError, configparser.Error) as error:
        return f"{ini}: {' '.join(str(error).split())}"
    for command in commands:
        status, output = _run([*shlex.split(command), "--help"], environ)
        if status:
            return f"{command} does not run: {_last_line(output)}"
    return ""


def _run(command: list[str], environ: Mapping[str, str]) -> tuple[int, str]:
    """Return exit status and output. A shell says the status: circus waits for all children, and takes them from us."""
    path = f"{Path(sys.executable).parent}:{environ.get('PATH', os.defpath)}"
    try:
        answer = subprocess.run(
            ["sh", "-c", SAY_STATUS, "sh", *command],
            env={**environ, "PATH": path},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    output, separator, status = answer.stdout.rpartition("status=")
    return int(status) if separator and status.strip().isdigit() else 1, output


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it says nothing")
