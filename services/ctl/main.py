"""`dockyard`: the operator's command, put together from its groups."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from services.ctl import jobs, processes, system
from services.ctl.options import File, Root, Run, common, settings, the_config
from services.ctl.stack import StackError
from services.ctl.up import fail, find_ini, up, up_detached
from shared.protocol import DockyardError

app = typer.Typer(
    help="A container engine you can take apart while it runs.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.callback()(common)


@app.command("up")
def up_command(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when the stack is ready.")] = False,
    root: Root = None,
    run: Run = None,
    config: File = None,
    host: Annotated[list[str] | None, typer.Option("--host", "-H", help="API listener; repeat for more.")] = None,
    bridge: Annotated[str | None, typer.Option(help="Default bridge; none: no networking.")] = None,
    bip: Annotated[str | None, typer.Option(help="The bridge's address, as 172.30.0.1/16.")] = None,
    storage_driver: Annotated[str | None, typer.Option(help="overlay or vfs.")] = None,
    debug: Annotated[bool | None, typer.Option("--debug", help="Log more.")] = None,
    circus_ini: Annotated[Path | None, typer.Option(help="Which processes run.")] = None,
) -> None:
    """Start the stack."""
    common(root or settings.get("root"), run or settings.get("run"), config)
    flags = {"hosts": host or None, "bridge": bridge, "bip": bip, "storage_driver": storage_driver, "debug": debug}
    start = up_detached if detach else up
    raise typer.Exit(start(the_config(**flags), (circus_ini or find_ini()).absolute()))


COMMANDS: tuple[Callable[..., None], ...] = (
    processes.down, processes.ps, processes.top, processes.scale, processes.restart, jobs.jobs, jobs.trace,
    jobs.cancel, jobs.commands, system.version, system.doctor, system.busybox,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)
app.command(context_settings={"help_option_names": []})(jobs.job)  # its --help is about the job that is named


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
