"""`dockyard up`: one stack on one root, in the foreground or detached."""

from __future__ import annotations

import asyncio
import configparser
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from services.ctl.doctor import first_problem
from services.ctl.launcher import Launcher
from services.ctl.listeners import Listener, make_listeners
from shared.runtime.config import Config, ConfigError, to_environ
from shared.runtime.log import set_up_logging

__all__ = ["EX_CONFIG", "fail", "find_ini", "run_stack", "take_lock", "up", "up_detached"]

EX_CONFIG = 78
DETACH_TIMEOUT = 90.0  # seconds
# Who starts the arbiter again where there is no systemd: only if it was killed or crashed, not if it ended by itself.
GUARD = 'while :; do "$@"; s=$?; case $s in 134|137|139) sleep 1 ;; *) exit $s ;; esac; done'
log = logging.getLogger("dockyard.arbiter")


def fail(message: str, status: int = 1) -> int:
    print(f"dockyard: {message}", file=sys.stderr)
    return status


def find_ini() -> Path:
    """Return circus.ini: beside the source tree, or in the installed package."""
    here = Path(__file__)
    candidates = (here.parents[2] / "circus.ini", here.with_name("circus.ini"))
    return next((path for path in candidates if path.exists()), candidates[0])


def take_lock(root: Path) -> int | None:
    """Take the root's lock, held as long as the process lives; None if another stack has it."""
    root.mkdir(mode=0o710, parents=True, exist_ok=True)
    descriptor = os.open(root / "dockyard.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def up(config: Config, ini: Path) -> int:
    """Run the stack; returns the exit status."""
    problem = first_problem()
    if problem is not None:
        return fail(f"{problem}; `dockyard doctor` prints the whole list")
    if take_lock(config.root) is None:
        return fail(f"another dockyard stack runs on {config.root}")
    set_up_logging(debug=config.debug)
    config.run.mkdir(mode=0o711, parents=True, exist_ok=True)
    config.run.chmod(0o711)
    try:
        listeners = make_listeners(config)
    except ConfigError as error:
        return fail(str(error), EX_CONFIG)
    except OSError as error:
        return fail(f"the API's socket cannot be made: {error}")
    return run_stack(config, ini, listeners)


def run_stack(config: Config, ini: Path, listeners: list[Listener]) -> int:
    """Run the processes of a circus.ini on sockets that are made; returns the exit status."""

    async def run() -> int:
        try:
            launcher = Launcher(ini, config.run, to_environ(config), listeners)
        except (OSError, ValueError, configparser.Error) as error:
            return fail(" ".join(str(error).split()), EX_CONFIG)
        return await launcher.run()

    return asyncio.run(run())


def up_detached(config: Config, ini: Path) -> int:
    """Start the stack in the background, and return when it has said READY=1."""
    config.run.mkdir(mode=0o711, parents=True, exist_ok=True)
    path = config.run / f"notify.{os.getpid()}"
    log_file = config.run / "dockyard.log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(0.2)
        try:
            environ = {**os.environ, **to_environ(config), "NOTIFY_SOCKET": str(path)}
            command = [sys.executable, "-m", "services.ctl.main", "up", "--circus-ini", str(ini)]
            with log_file.open("ab") as log_stream:
                process = subprocess.Popen(
                    ["sh", "-c", GUARD, "dockyard-guard", *command],
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=log_stream,
                    stderr=log_stream,
                    start_new_session=True,
                    cwd="/",
                )
            return _await_ready(process, notify, log_file)
        finally:
            path.unlink(missing_ok=True)


def _await_ready(process: subprocess.Popen[bytes], notify: socket.socket, log_file: Path) -> int:
    status = "no word from it"
    for _ in range(int(DETACH_TIMEOUT / 0.2)):
        try:
            lines = notify.recv(4096).decode().splitlines()
        except TimeoutError:
            lines = []
        status = next((line.removeprefix("STATUS=") for line in lines if line.startswith("STATUS=")), status)
        if "READY=1" in lines:
            return 0
        if process.poll() is not None:
            tail = log_file.read_text(errors="replace").splitlines()[-1:]
            return fail(f"the stack did not start: {tail[0] if tail else status}", process.returncode or 1)
    os.killpg(process.pid, signal.SIGTERM)  # the guard and the arbiter: the guard passes nothing on
    return fail(f"the stack is not ready after {DETACH_TIMEOUT:.0f} s ({status}); see {log_file}")
