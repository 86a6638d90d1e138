"""Commands: all that `dockyard` can be told, put together from its groups."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import typer

from services.ctl import jobs, processes, system
from services.ctl.flags import UpCommand, up_command
from services.ctl.options import common, settings
from services.ctl.stack import StackError
from services.ctl.up import fail
from shared.protocol import DockyardError

app = typer.Typer(
    help="A container engine you can take apart while it runs.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.callback()(common)


app.command("up", cls=UpCommand)(up_command(settings))


COMMANDS: tuple[Callable[..., None], ...] = (
    processes.down, processes.ps, processes.top, processes.scale, processes.restart,
    processes.logs, processes.upgrade, processes.reload, processes.stop_containers, jobs.jobs, jobs.trace,
    jobs.cancel, jobs.commands, system.version, system.doctor, system.busybox,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)
app.command(context_settings={"help_option_names": []})(jobs.job)  # its --help is about the job that is named


def run() -> None:
    """Run the command that the arguments name; errors of the stack are one line."""
    try:
        app()
    except DockyardError as error:
        sys.exit(fail(error.message, error.status))
    except StackError as error:
        sys.exit(fail(str(error)))
    finally:
        _flush()


def _flush() -> None:
    """Write what is left; who reads us may have gone (`| head`), which the interpreter would make a fuss of."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
