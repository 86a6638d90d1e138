"""The commands that are about the stack's processes: see them, have more or fewer, replace them, stop them."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Annotated

import typer

from services.ctl import completion, overview, table, units
from services.ctl.cgroups import Cgroups
from services.ctl.options import Json, the_client, the_config
from services.ctl.stack import POOLS, Stack, StackError
from services.ctl.top import Screen
from shared.protocol import ListContainers, ListServices, NotModified, StopContainer

__all__ = ["down", "ps", "restart", "scale", "top"]

Service = Annotated[str, typer.Argument(autocompletion=completion.services)]


def down(containers: Annotated[bool, typer.Option(help="Stop the containers too.")] = False) -> None:
    """Stop the stack; containers live on."""
    config = the_config()
    if containers:
        client = the_client(config)
        for container in client.call(ListContainers()):
            with contextlib.suppress(NotModified):
                client.call(StopContainer(container=container.id))
    Stack(config.run).down(config.root)


def ps(as_json: Json = False) -> None:
    """List the stack's processes: health, restarts, jobs in flight."""
    config = the_config()
    seen = overview.look(Stack(config.run, timeout=overview.PATIENCE), the_client(config))
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
    screen = Screen(config.run, Cgroups(config.cgroup_parent))
    raise typer.Exit(screen.once() if once or not sys.stdout.isatty() else screen.live())


def scale(service: Service, count: Annotated[int, typer.Argument(min=1)]) -> None:
    """Change how many processes of a service run."""
    before = Stack(the_config().run).scale(service, count)
    print(f"{service}: {before} -> {count}")


def restart(service: Service) -> None:
    """Replace a service's processes, one by one."""
    config = the_config()
    if service not in POOLS:
        Stack(config.run).restart(service)
        return
    client = the_client(config)
    Stack(config.run).replace(
        service, lambda: {one.pid for one in client.call(ListServices()) if one.service == service}
    )
