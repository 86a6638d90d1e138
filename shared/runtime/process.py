"""run: what every service's ``__main__`` does."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable

from shared.runtime.config import Config, ConfigError
from shared.runtime.loading import load_config
from shared.runtime.log import set_up_logging
from shared.runtime.memory import give_back, watch_memory
from shared.runtime.parent import end_with_parent
from shared.runtime.turns import await_turn

__all__ = [
    "FORCED_AFTER",
    "SHUTDOWN_HANDLERS_TIMEOUT",
    "STOP_MARGIN",
    "Serve",
    "run",
    "stop_limit",
    "take_descriptors",
]

EX_CONFIG = 78  # sysexits(3): a restart is no use
SHUTDOWN_HANDLERS_TIMEOUT = 10.0  # seconds that all of the engine's together may take, as in 2014
STOP_MARGIN = 1.0  # seconds
FORCED_AFTER = 3  # further signals that are absorbed before one forces the exit

# serve(config, stop, on_stop): returns when ``stop`` is set; ``on_stop(f)`` has f called by the signal
Serve = Callable[[Config, threading.Event, Callable[[Callable[[], None]], None]], None]
Check = Callable[[Config], None]


def run(name: str, serve: Serve, check: Check | None = None) -> int:
    """Load the configuration, set up logging and signals, serve until asked to stop; returns the exit status.

    ``name``: the service's, as in circus.ini. At a boot of the stack it waits for its turn (`await_turn`).
    ``check``: raises ConfigError for what a running stack cannot change over to; ``--check`` does that alone.

    The process dies with the one that started it (PR_SET_PDEATHSIG), so that a killed supervisor leaves no
    half of a stack behind.
    """
    only_check = check is not None and sys.argv[1:] == ["--check"]
    if len(sys.argv) > 1 and not only_check:
        usage = f"usage: python -m services.{name}{' [--check]' if check else ''}"
        print(f"{usage}\n\nSettings come from DOCKYARD_* and dockyard.toml.", file=sys.stderr)
        return 0
    try:
        config = load_config({}, os.environ)
        if check is not None and only_check:
            check(config)
            return 0
    except ConfigError as error:
        print(f"dockyard {name}: {error}", file=sys.stderr)
        return EX_CONFIG
    set_up_logging(debug=config.debug)
    os.umask(0o077)
    if not end_with_parent(signal.SIGTERM):
        return 0
    give_back()  # what loading the code has left: half a MB
    await_turn(config.run, name)
    stop = threading.Event()
    on_stop = _trap(name, stop, stop_limit(name, config.shutdown_timeout), debug=config.debug)
    watch_memory()
    try:
        serve(config, stop, on_stop)
    except ConfigError as error:
        print(f"dockyard {name}: {error}", file=sys.stderr)
        return EX_CONFIG
    return 0


def stop_limit(name: str, shutdown_timeout: float) -> float:
    """Return the seconds after which a service that was told to stop has ended, whatever keeps it."""
    return shutdown_timeout + (SHUTDOWN_HANDLERS_TIMEOUT if name == "engine" else 0.0) + STOP_MARGIN


def take_descriptors() -> int:
    """Allow this process as many descriptors as it may have; returns that number.

    For those of whom clients can have many. Not for who starts programs of others: these would inherit it.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return sys.maxsize if most == resource.RLIM_INFINITY else most


def _end_in(seconds: float, status: int) -> None:
    """Whatever its threads wait for then: the process ends, also where nobody is left to kill it."""
    timer = threading.Timer(seconds, os._exit, (status,))
    timer.daemon = True
    timer.start()


def _trap(name: str, stop: threading.Event, limit: float, *, debug: bool) -> Callable[[Callable[[], None]], None]:
    """Have SIGINT and SIGTERM set ``stop``; returns what takes a callback for it, were the signal there already."""
    received = 0
    callbacks: list[Callable[[], None]] = []

    def handle(number: int, _frame: object) -> None:
        nonlocal received
        received += 1
        log, shown = logging.getLogger(f"dockyard.{name}"), signal.Signals(number).name
        if received > FORCED_AFTER:
            log.error("forced to end, whatever is under way signal=%s", shown)
            os._exit(128 + number)
        log.info("signal received, stopping signal=%s", shown)
        if received == 1:
            _end_in(limit, 128 + number)
        stop.set()
        for callback in callbacks:
            callback()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    if not debug:
        signal.signal(signal.SIGQUIT, lambda number, _frame: os._exit(128 + number))

    def on_stop(callback: Callable[[], None]) -> None:
        callbacks.append(callback)
        if stop.is_set():
            callback()

    return on_stop
