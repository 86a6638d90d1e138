"""The commands that are about jobs: see them, trace one, inject one, cancel one."""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import Annotated

import msgspec
import typer

from services.ctl import completion, joblist, stacklog, timeline, usage
from services.ctl.inject import build_body, build_job, follow_events, inject, inject_foreign, report
from services.ctl.options import Json, the_client, the_config, the_run
from services.ctl.reading import Reading
from services.ctl.units import parse_since
from shared.protocol import (
    Conflict,
    DockyardError,
    ListCommands,
    ListJobs,
    ListServices,
    ReadEvents,
    Unavailable,
    catalogue,
)

__all__ = ["cancel", "commands", "job", "jobs", "trace"]

INTERRUPTED = 128 + signal.SIGINT
HELP = "help"  # `dockyard job help NAME`

ID = "A job's id, or the beginning of it."


def jobs(
    running: Annotated[bool, typer.Option("--running", help="Only those under way.")] = False,
    failed: Annotated[bool, typer.Option("--failed", help="Only those that failed.")] = False,
    name: Annotated[str, typer.Option(help="Only jobs of that name.", autocompletion=completion.jobs)] = "",
    since: Annotated[str, typer.Option(help="Only those begun since: 10m, 2026-01-31T12:00, 1767225600.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 30,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on: each job as it ends.")] = False,
    as_json: Json = False,
) -> None:
    """List jobs, newest first, each above those it called, and what those under way wait for."""
    try:
        begin = parse_since(since, time.time()) if since else 0.0
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--since") from None
    asked = ListJobs(running=running, failed=failed, name=name, since=begin, limit=limit)
    if not follow:
        found = Reading(the_run()).call(asked)
        joblist.show([job for job in found if not joblist.is_ours(job)], as_json=as_json)
        return
    try:
        joblist.follow(the_client(), asked, as_json=as_json)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def trace(
    job_id: Annotated[str, typer.Argument(metavar="ID", help=ID, autocompletion=completion.past_jobs)],
    as_json: Json = False,
) -> None:
    """Show a job and all it caused, over all processes, as a time line; with its lines of the stack's log."""
    config = the_config()
    found = timeline.find(Reading(the_run(config)), job_id)
    if as_json:
        print(msgspec.json.encode(found).decode())
        return
    log = stacklog.search(stacklog.the_log(config.run, config.pid_path).lines(), {job.id for job in found})
    timeline.show(found, log)


def job(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(autocompletion=completion.jobs)] = None,
    arguments: Annotated[list[str] | None, typer.Argument(autocompletion=completion.arguments)] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", "-e", metavar="KEY=VALUE", autocompletion=completion.settings)
    ] = None,
    timeout: Annotated[float | None, typer.Option(min=0.0, metavar="SECONDS", help="The job's deadline.")] = None,
    as_json: Json = False,
    show_help: Annotated[bool, typer.Option("--help", "-h", help="Show this, or what the job NAME takes.")] = False,
) -> None:
    """Run a job as a program: stdin, stdout, stderr and exit status are the job's.

    `dockyard job help` lists the jobs, `dockyard job help NAME` says what one takes. ctrl-c cancels the job.
    """
    words = arguments or []
    try:
        if name is None or show_help or name == HELP:
            raise typer.Exit(_help(ctx, name, words))
        signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
        if name in catalogue():
            made = build_job(name, words, env or [])
            if isinstance(made, ReadEvents) and not as_json:
                raise typer.Exit(follow_events(the_client(), made, timeout=timeout))
            raise typer.Exit(inject(the_client(), made, as_json=as_json, timeout=timeout))
        body = build_body(words, env or [])
        raise typer.Exit(inject_foreign(the_client(), name, body, as_json=as_json, timeout=timeout))
    except DockyardError as error:
        raise typer.Exit(report(error, as_json=as_json)) from None


def _help(ctx: typer.Context, name: str | None, words: list[str]) -> int:
    topic = words[0] if name == HELP and words else name
    if topic is None:
        print(ctx.get_help())
    elif topic == HELP:
        print(usage.job_list())
    else:
        print(usage.job_usage(topic, _holder(topic)))
    return 0


def _holder(name: str) -> str:
    try:
        client = the_client()
        commands = client.call(ListCommands(), timeout=completion.PATIENCE)
        services = client.call(ListServices(), timeout=completion.PATIENCE)
        return usage.holder(name, commands, services)
    except DockyardError:
        return "unknown, the engine does not answer"


def cancel(
    job_id: Annotated[str, typer.Argument(metavar="ID", help=ID, autocompletion=completion.running_jobs)],
) -> None:
    """Cancel a job that is under way, whoever asked for it."""
    client = the_client()
    meant = [job for job in joblist.running_jobs(client) if job.id.startswith(job_id)]
    found = joblist.the_one(job_id, meant or timeline.find(client, job_id))
    if found.status is not None:
        raise Conflict(f"job {found.id} ({found.name}) has ended: {joblist.state_text(found, time.time())}")
    if not client.cancel(found.id):
        raise Unavailable(f"job {found.id} ({found.name}) was told to end, and has not ended yet")
    print(found.id)


def commands(as_json: Json = False) -> None:
    """List every job name that is registered."""
    names: list[str] = the_client().call(ListCommands())
    print(json.dumps(names) if as_json else "\n".join(names))
