"""`dockyard`: the operator's command."""

from __future__ import annotations

import os
import sys
import time
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from services.ctl import busybox as builtin_image
from services.ctl.doctor import examine
from services.ctl.flags import UpCommand, up_command
from services.ctl.inject import build_job, inject
from services.ctl.stack import Stack, StackError
from services.ctl.up import EX_CONFIG, fail
from shared.bus.client import Client
from shared.bus.sockets import engine_endpoint
from shared.bus.tickets import redeem
from shared.protocol import (
    DockyardError,
    InspectImage,
    ListCommands,
    ListContainers,
    ListJobs,
    LoadImages,
    NotFound,
    NotModified,
    Output,
    PastJob,
    StopContainer,
    SystemVersion,
    Ticket,
)
from shared.runtime.config import Config, ConfigError, load_config

app = typer.Typer(
    help="A container engine you can take apart while it runs.", no_args_is_help=True, pretty_exceptions_enable=False
)
settings: dict[str, Any] = {}

Root = Annotated[Path | None, typer.Option(help="Directory of what must survive a reboot.")]
Run = Annotated[Path | None, typer.Option(help="Directory of sockets and of what runs.")]
File = Annotated[
    Path | None, typer.Option("--config", help="Configuration file (default /etc/dockyard/dockyard.toml).")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def common(root: Root = None, run: Run = None, config: File = None) -> None:
    settings.update(root=root, run=run)
    if config is not None:
        os.environ["DOCKYARD_CONFIG"] = str(config)


def the_config(**flags: Any) -> Config:
    try:
        return load_config({**settings, **flags}, os.environ)
    except ConfigError as error:
        raise typer.Exit(fail(str(error), EX_CONFIG)) from None


def the_client(config: Config | None = None) -> Client:
    return Client(engine_endpoint((config or the_config()).run), "ctl")


app.command("up", cls=UpCommand)(up_command(settings))


@app.command()
def down(containers: Annotated[bool, typer.Option(help="Stop the containers too.")] = False) -> None:
    """Stop the stack; containers live on."""
    config = the_config()
    if containers:
        client = the_client(config)
        for container in client.call(ListContainers()):
            try:
                client.call(StopContainer(container=container.id))
            except NotModified:
                continue
    Stack(config.run).down(config.root)


@app.command()
def ps() -> None:
    """List the stack's processes."""
    stack = Stack(the_config().run)
    table = Table("SERVICE", "PID", "STATE", "UPTIME", "MEMORY", "CPU", box=None, pad_edge=False)
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    shown = set()
    for process in stack.processes():
        shown.add(process.service)
        memory = f"{process.memory / 1e6:.1f} MB"
        row = (process.service, str(process.pid), stack.status(process.service), f"{now - process.started:.0f} s")
        table.add_row(*row, memory, f"{process.cpu:.1f} s")
    for service in sorted(set(stack.services()) - shown):
        table.add_row(service, "-", stack.status(service), "-", "-", "-")
    Console().print(table)


@app.command()
def scale(service: str, count: Annotated[int, typer.Argument(min=1)]) -> None:
    """Change how many processes of a service run."""
    before = Stack(the_config().run).scale(service, count)
    print(f"{service}: {before} -> {count}")


@app.command()
def restart(service: str) -> None:
    """Replace a service's processes, one by one."""
    Stack(the_config().run).restart(service)


@app.command()
def job(
    name: str,
    arguments: Annotated[list[str] | None, typer.Argument()] = None,
    env: Annotated[list[str] | None, typer.Option("--env", "-e", metavar="K=V")] = None,
    as_json: Json = False,
) -> None:
    """Inject a job; the exit status is the job's."""
    try:
        made = build_job(name, arguments or [], env or [])
    except DockyardError as error:
        raise typer.Exit(fail(error.message, error.status)) from None
    raise typer.Exit(inject(the_client(), made, as_json=as_json))


@app.command()
def jobs(
    running: Annotated[bool, typer.Option(help="Only those under way.")] = False,
    limit: int = 30,
    as_json: Json = False,
) -> None:
    """List jobs, newest first."""
    show_jobs(the_client().call(ListJobs(running=running, limit=limit)), as_json=as_json)


@app.command()
def trace(job_id: str, as_json: Json = False) -> None:
    """Show a job and everything it caused, over all processes."""
    found = the_client().call(ListJobs(trace=job_id))
    if not found:
        raise NotFound(f"no job {job_id}")
    show_jobs(found, as_json=as_json, relative=True)


def show_jobs(found: list[PastJob], *, as_json: bool, relative: bool = False) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
        return
    table = Table("ID", "JOB", "BY", "IN", "START", "MS", "STATUS", box=None, pad_edge=False)
    begin = min((entry.started for entry in found), default=0.0)
    depth: dict[str, int] = {}
    for entry in found:
        depth[entry.id] = depth.get(entry.parent, -1) + 1
        clock = time.strftime("%H:%M:%S", time.localtime(entry.started))
        start = f"+{(entry.started - begin) * 1000:.1f}" if relative else clock
        took = f"{((entry.ended or time.time()) - entry.started) * 1000:.1f}"
        status = "running" if entry.status is None else f"{entry.status} {entry.message}".strip()
        name = ("  " * depth[entry.id] if relative else "") + entry.name
        table.add_row(entry.id[:12], name, entry.caller, entry.service, start, took, status)
    Console(soft_wrap=True).print(table)


@app.command()
def commands() -> None:
    """List every job name that is registered."""
    names: list[str] = the_client().call(ListCommands())
    print("\n".join(names))


@app.command()
def version() -> None:
    """Show the versions of this command and of the running engine."""
    print(f"dockyard {distribution_version('dockyard')}")
    try:
        answer = the_client().call(SystemVersion(), timeout=3)
    except DockyardError:
        print("engine: not running")
    else:
        print(f"engine {answer['Version']}, API {answer['MinAPIVersion']} to {answer['ApiVersion']}")


@app.command()
def doctor() -> None:
    """Say what this host lacks, and how to get it."""
    missing = False
    for finding in examine():
        missing |= finding.needed and not finding.ok
        mark = "ok      " if finding.ok else ("MISSING " if finding.needed else "lacking ")
        print(f"{mark} {finding.what}" + ("" if finding.ok else f": {finding.remedy}"))
    raise typer.Exit(int(missing))


@app.command()
def busybox(force: Annotated[bool, typer.Option(help="Even if there is one.")] = False) -> None:
    """Make the built-in busybox image from the distribution's busybox-static, unless there is one."""
    client = the_client()
    if not force:
        try:
            client.call(InspectImage(image="busybox"))
            return
        except NotFound:
            pass

    def send(output: Output) -> None:
        if output.stream == "ticket":
            with redeem(msgspec.json.decode(output.text, type=Ticket)) as connection:
                connection.sendall(builtin_image.archive())

    client.call(LoadImages(), on_status=send)


def main() -> None:
    """Run the command; errors of the stack are one line."""
    try:
        app()
    except DockyardError as error:
        sys.exit(fail(error.message, error.status))
    except StackError as error:
        sys.exit(fail(str(error)))


if __name__ == "__main__":
    main()
