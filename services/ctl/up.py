"""`dockyard up`: one stack on one root, in the foreground or detached."""

from __future__ import annotations

import asyncio
import configparser
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from services.ctl import succession
from services.ctl.arbiter import read_ini
from services.ctl.forking import find_ini
from services.ctl.forks import Begun, ForkServer
from services.ctl.launcher import Launcher
from services.ctl.listeners import Listener, check_activation, check_hosts, make_listeners
from services.ctl.rehearsal import CHECKED, LISTENING
from services.ctl.stacklog import keep_bounded, log_file
from services.ctl.startup import CHECKS, MUST_BE_ROOT, REPEATED_CHECKS, RUN_LOCK, StartError, check, take_lock
from services.ctl.succession import Legacy
from services.ctl.watcher import EX_CONFIG
from shared.runtime.config import PREFIX, Config, ConfigError
from shared.runtime.loading import load_config, to_environ
from shared.runtime.log import set_up_logging
from shared.runtime.process import STOP_MARGIN, stop_limit

__all__ = [
    "EX_CONFIG",
    "fail",
    "run_stack",
    "up",
    "up_checked",
    "up_detached",
    "up_without_flags",
]

CHECKING = {"python -m services.netdriver"}  # programs that check a change before it is carried out
INI_ERRORS = (OSError, ValueError, configparser.Error)
DETACH_TIMEOUT = 90.0  # seconds
# Who starts the arbiter again where there is no systemd: only if it was killed or crashed, not if it ended by itself.
GUARD = 'while :; do "$@"; s=$?; case $s in 134|137|139) sleep 1 ;; *) exit $s ;; esac; done'


def fail(message: str, status: int = 1) -> int:
    print(f"dockyard: {message}", file=sys.stderr)
    return status


def up_without_flags(begun: Begun | None = None) -> int:
    """Run the stack as environment and dockyard.toml say; ``begun``: a fork server, if there is one."""
    try:
        config = load_config({}, os.environ)
    except ConfigError as error:
        return fail(str(error), EX_CONFIG)
    return up(config, find_ini().absolute(), begun)


def up(config: Config, ini: Path, begun: Begun | None = None) -> int:
    """Run the stack; returns the exit status. ``begun``: as of `ForkServer`."""
    set_up_logging(debug=config.debug)
    legacy = succession.take(os.environ)
    try:
        config = check(config, CHECKS if legacy is None else REPEATED_CHECKS)
        if legacy is not None and legacy.run_lock < 0:
            take_lock(config.run / RUN_LOCK)
        config.run.chmod(0o711)
        shutil.rmtree(config.run / "metrics", ignore_errors=True)  # what an earlier stack's API workers have counted
        with pidfile(config.pid_path):
            listeners = make_listeners(config, os.environ, legacy.listeners if legacy else None)
            return run_stack(config, ini, listeners, legacy, ForkServer(ini, begun))
    except ConfigError as error:
        return fail(str(error), EX_CONFIG)
    except StartError as error:
        return fail(str(error))


def up_checked(config: Config, ini: Path) -> int:
    """Check the configuration and this host, beside a stack that runs, and start nothing."""
    set_up_logging(debug=config.debug)
    listening = os.environ.get(LISTENING)
    try:
        config = check(config, REPEATED_CHECKS)
        check_hosts(config, None if listening is None else listening.split())
        if listening is not None and os.environ.get("LISTEN_FDS", "0") != "0":  # what the arbiter was started with
            check_activation(config)
        _, watchers = read_ini(ini)
    except StartError as error:
        return fail(str(error))
    except ConfigError as error:
        return fail(str(error), EX_CONFIG)
    except INI_ERRORS as error:
        return fail(" ".join(str(error).split()), EX_CONFIG)
    for command in {watcher.cmd for watcher in watchers} & CHECKING:
        refused = subprocess.run(
            [*command.split(), "--check"], env=_environ_of(config), cwd="/", check=False
        ).returncode
        if refused:  # it has said why
            return refused
    print(CHECKED.format(config.root, config.run))
    return 0


@contextmanager
def pidfile(path: Path) -> Iterator[None]:
    """Tell our pid in a file, for as long as the block lasts. Errors: ConfigError."""
    own = str(os.getpid())
    try:
        path.write_text(own)
    except OSError as error:
        raise ConfigError(f"pidfile: {path}: {error.strerror}") from None
    try:
        yield
    finally:
        with suppress(OSError):
            if path.read_text() == own:  # not of a stack that was given the same name
                path.unlink()


def _environ_of(config: Config) -> dict[str, str]:
    """Return what the processes of a stack would find in their environment."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    path = f"{Path(sys.executable).parent}:{others.get('PATH', os.defpath)}"
    return {**others, **to_environ(config), "PATH": path, "PYTHONSAFEPATH": "1"}


def take_environment(config: Config) -> None:
    """Have all settings in our environment, for child processes, each by its one name."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    os.environ.update(to_environ(config))


def run_stack(
    config: Config,
    ini: Path,
    listeners: list[Listener],
    legacy: Legacy | None = None,
    fork_server: ForkServer | None = None,
) -> int:
    """Run the processes of a circus.ini on sockets that are made; returns the exit status."""

    async def run() -> int:
        try:
            take_environment(config)
            variables = {"TMPDIR": str(config.temporary)}
            launcher = Launcher(
                ini, config.run, variables, listeners, root=config.root, legacy=legacy, grace=config.stream_grace,
                stop_limit=lambda service: stop_limit(service, config.shutdown_timeout) + STOP_MARGIN,
                fork_server=fork_server,
            )  # fmt: skip
        except INI_ERRORS as error:
            return fail(" ".join(str(error).split()), EX_CONFIG)
        bounding = asyncio.ensure_future(keep_bounded(log_file(config.run)))
        try:
            return await launcher.run()
        finally:
            bounding.cancel()
            if fork_server is not None:
                fork_server.close()

    return asyncio.run(run())


def up_detached(config: Config, ini: Path) -> int:
    """Start the stack in the background, and return when it has said READY=1."""
    path = config.run / f"notify.{os.getpid()}"
    file = log_file(config.run)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        try:
            config.run.mkdir(mode=0o711, parents=True, exist_ok=True)
            notify.bind(str(path))
        except OSError as error:
            if os.geteuid():
                return fail(MUST_BE_ROOT)
            return fail(f"run: {config.run}: {error.strerror or error}", EX_CONFIG)
        notify.settimeout(0.2)
        try:
            own = [] if ini == find_ini().absolute() else ["--circus-ini", str(ini)]
            command = [sys.executable, "-m", "services.ctl.main", "up", *own]
            with file.open("ab") as log_stream:
                process = subprocess.Popen(
                    ["sh", "-c", GUARD, "dockyard-guard", *command],
                    env={**os.environ, "NOTIFY_SOCKET": str(path)},
                    stdin=subprocess.DEVNULL,
                    stdout=log_stream,
                    stderr=log_stream,
                    start_new_session=True,
                    cwd="/",
                )
            return _await_ready(process, notify, file)
        finally:
            path.unlink(missing_ok=True)


def _await_ready(process: subprocess.Popen[bytes], notify: socket.socket, file: Path) -> int:
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
            tail = file.read_text(errors="replace").splitlines()[-1:]
            return fail(f"the stack did not start: {tail[0] if tail else status}", process.returncode or 1)
    os.killpg(process.pid, signal.SIGTERM)  # the guard and the arbiter: the guard passes nothing on
    return fail(f"the stack is not ready after {DETACH_TIMEOUT:.0f} s ({status}); see {file}")
