"""The commands that are about the stack's processes: see them, have more or fewer, replace them, stop them."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer

from services.ctl import completion, overview, stacklog, system, table, units
from services.ctl.arbiter import SINGLE, read_ini
from services.ctl.cgroups import Cgroups
from services.ctl.forking import find_ini
from services.ctl.options import Json, the_client, the_config, the_run
from services.ctl.presence import require_stack
from services.ctl.stack import POOLS, Stack, StackError, most_processes
from services.ctl.top import Screen
from shared.protocol import DockyardError, ListContainers, ListServices, NotModified, StopContainer
from shared.runtime.config import Config
from shared.runtime.slices import choose

__all__ = ["down", "logs", "ps", "reload", "restart", "scale", "stop_containers", "top", "upgrade"]

STOPPED_AT_A_TIME = 64
SHUTDOWN_TIMEOUT = 100.0  # seconds

Service = Annotated[str, typer.Argument(autocompletion=completion.services)]


def down(containers: Annotated[bool, typer.Option(help="Stop the containers too.")] = False) -> None:
    """Stop the stack; containers live on."""
    config = the_config()
    if containers:
        client = the_client(config)
        for container in client.call(ListContainers()):
            with contextlib.suppress(NotModified):
                client.call(StopContainer(container=container.id))
    unit = stacklog.unit_of(config.pid_path)
    Stack(the_run(config)).down()
    if unit:
        print(f"dockyard: systemd starts {unit} again: `systemctl stop {unit}` keeps it down", file=sys.stderr)


def stop_containers() -> None:
    """Stop all containers at the same time, as for a shutdown of the host: restart policies hold at the next start."""
    config = the_config()
    running = the_client(config).call(ListContainers())
    with ThreadPoolExecutor(max(1, min(len(running), STOPPED_AT_A_TIME))) as pool:
        for error in pool.map(lambda container: _stop_for_shutdown(config, container.id), running):
            if error:
                print(f"dockyard: {error}", file=sys.stderr)


def _stop_for_shutdown(config: Config, container: str) -> str:
    client = the_client(config)
    try:
        client.call(StopContainer(container=container, shutdown=True), timeout=SHUTDOWN_TIMEOUT)
    except NotModified:
        pass
    except DockyardError as error:
        return error.message
    finally:
        client.close()
    return ""


def ps(as_json: Json = False) -> None:
    """List the stack's processes: health, restarts, jobs in flight."""
    config = the_config()
    seen = overview.look(Stack(the_run(config), timeout=overview.PATIENCE), the_client(config))
    if not seen.processes:
        raise StackError(seen.arbiter_trouble or "no process is there")
    for trouble in filter(None, (seen.arbiter_trouble, seen.engine_trouble)):
        print(f"dockyard: {trouble}", file=sys.stderr)
    boot_time = time.clock_gettime(time.CLOCK_BOOTTIME)
    if as_json:
        print(json.dumps(overview.process_records(seen, boot_time)))
    else:
        cells = overview.process_rows(seen, boot_time, lambda process: units.duration(process.cpu))
        table.show(overview.PROCESS_HEADER, cells)


def top(
    once: Annotated[
        bool, typer.Option("--once", help="Show one frame and end, as where there is no terminal.")
    ] = False,
) -> None:
    """Watch processes, jobs under way and containers; q ends it."""
    config = the_config()
    require_stack(config.run)
    screen = Screen(config.run, Cgroups(choose(config.cgroup_driver, config.cgroup_parent)[1]))
    raise typer.Exit(screen.once() if once or not sys.stdout.isatty() else screen.live())


def scale(service: Service, count: Annotated[int, typer.Argument(min=1)]) -> None:
    """Change how many processes of a service run: of the apiserver, or of a driver that is a pool."""
    if service in SINGLE and count > 1:
        raise StackError(f"there can be only one {service}; what can be scaled: {', '.join(POOLS)}")
    if count > most_processes():
        raise StackError(f"more than {most_processes()} processes of {service} are of no use here")
    before = Stack(the_run()).scale(service, count)
    print(f"{service}: {before} -> {count}")


def restart(service: Service) -> None:
    """Replace a service's processes, one by one."""
    config = the_config()
    if service not in POOLS:
        Stack(the_run(config)).restart(service)
        return
    client = the_client(config)
    Stack(the_run(config)).replace(
        service, lambda: {one.pid for one in client.call(ListServices()) if one.service == service}
    )


def logs(
    service: Annotated[str | None, typer.Argument(autocompletion=completion.services)] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is logged from now on.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 100,
) -> None:
    """Show what the stack, or one of its services, has logged: from systemd's journal or the stack's log file."""
    config = the_config()
    log = stacklog.the_log(config.run, config.pid_path)
    if not log.is_there:
        raise StackError(f"there is no log: {log.file} is what `dockyard up --detach` writes")
    seen: set[str] = set()
    for line in deque(stacklog.of_service(log.lines(), service, seen), lines) if service else log.last(lines):
        print(line)
    if service and service not in {*seen, *_shipped()}:
        raise StackError(f"no line of the log is of {service}, but of {', '.join(sorted(seen)) or 'nobody'}")
    if follow:
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            for line in stacklog.of_service(log.follow(), service) if service else log.follow():
                print(line, flush=True)


def _shipped() -> list[str]:
    """Return the services that may have been quiet so far."""
    return [watcher.name for watcher in read_ini(find_ini())[1]]


def upgrade() -> None:
    """Replace all processes, one after the other, by what is on disk now: code, dockyard.toml, circus.ini.

    Clients see no error, containers go on. What is on disk is tried first; if it cannot run, nothing is changed.
    """
    Stack(the_run()).upgrade(print)
    system.version()


def reload() -> None:
    """Read dockyard.toml and circus.ini anew, as an upgrade does, with the code that is on disk."""
    Stack(the_run()).upgrade()
