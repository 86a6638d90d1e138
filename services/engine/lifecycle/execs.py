"""Execs: create, start, end, and what is set right after an outage."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from services.engine.container import Container
from services.engine.create import check_no_nul, merge_environment
from services.engine.execs import LOST_EXIT_CODE, Exec, ExecRecord
from services.engine.launch import environment
from services.engine.record import Status
from shared.bus.context import asked_again, job_id
from shared.protocol import (
    CommandNotFound,
    Conflict,
    CreateExec,
    DockyardError,
    ExecCreated,
    ExecStarted,
    InvalidArgument,
    NotFound,
    RunningExec,
    RuntimeExec,
    RuntimeExecList,
    StartExec,
    Unavailable,
)

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["check_running", "create_exec", "end_exec", "reconcile_execs", "start_exec"]

NOT_FOUND_EXIT_CODE, NOT_STARTED_EXIT_CODE = 127, 126


def create_exec(engine: Engine, job: CreateExec) -> ExecCreated:
    container = engine.containers.find(job.container)
    args = [job.config.cmd] if isinstance(job.config.cmd, str) else list(job.config.cmd or [])
    if not args:
        raise InvalidArgument("No exec command specified")
    config = job.config
    check_no_nul(Cmd=args, Env=config.env, User=[config.user], WorkingDir=[config.working_dir])
    for entry in config.env or []:
        if not entry.partition("=")[0]:
            raise InvalidArgument(f"invalid environment variable: {entry}")
    check_running(container)
    record = ExecRecord(
        id=secrets.token_hex(32), container=container.id, created=time.time_ns(), args=args, config=job.config
    )
    engine.execs.add(Exec(record))
    created = ExecCreated(id=record.id)
    with engine.store.transaction():
        engine.store.put_exec(record)
        engine.tell(container, f"exec_create: {record.command}", execID=record.id)
        engine.done(CreateExec, created)
    return created


def check_running(container: Container) -> None:
    """Errors: Conflict, in the words that clients know."""
    record = container.record
    if record.status == "paused":
        raise Conflict(f"Container {record.id} is paused, unpause the container before exec")
    if record.status is Status.RESTARTING:
        raise Conflict(f"Container {record.id} is restarting, wait until the container is running")
    if not record.running:
        raise Conflict(f"container {record.id} is not running")


async def start_exec(engine: Engine, job: StartExec) -> ExecStarted:
    """Start an exec; whoever called may go away meanwhile. Errors as `StartExec`."""
    return await engine.router.uninterrupted(_start(engine, engine.execs.find(job.exec), job))


async def _start(engine: Engine, exec_: Exec, job: StartExec) -> ExecStarted:
    async with exec_.lock:
        record, config = exec_.record, exec_.record.config
        again = asked_again() and record.attempt == job_id()
        if not again and (record.running or record.exit_code is not None):
            raise Conflict(f"exec command {record.id} has already run")
        if not record.running and record.exit_code is None:
            await _run(engine, exec_, job, announce=not again)
    return ExecStarted(
        tty=config.tty,
        stdin=config.attach_stdin,
        stdout=config.attach_stdout,
        stderr=config.attach_stderr,
        detach_keys=config.detach_keys,
    )


async def _run(engine: Engine, exec_: Exec, job: StartExec, *, announce: bool) -> None:
    """Have the process made. If nobody can say whether it was (Unavailable), the exec can be started again."""
    record = exec_.record
    container = engine.containers.by_id(record.container)
    if container is None:
        raise NotFound(f"No such exec instance: {record.id}")
    check_running(container)
    record.attempt = job_id()
    if announce:
        with engine.store.transaction():
            engine.store.put_exec(record)
            engine.tell(container, f"exec_start: {record.command}", execID=record.id)
    try:
        started = await engine.call(_request(engine, container, record, job))
    except Unavailable:
        raise
    except DockyardError as error:
        code = NOT_FOUND_EXIT_CODE if isinstance(error, CommandNotFound) else NOT_STARTED_EXIT_CODE
        _note_end(engine, exec_, code, time.time(), died=False)
        raise
    record.pid = started.pid
    engine.store.put_exec(record)


def _request(engine: Engine, container: Container, record: ExecRecord, job: StartExec) -> RuntimeExec:
    """Its variables are the container's, with those of the links that there are now, and its own."""
    own, config = container.record, record.config
    return RuntimeExec(
        exec=record.id,
        container=own.id,
        generation=own.generation,
        args=record.args,
        env=merge_environment(environment(engine, own, links_run=False), config.env or []),
        hostname=own.config.hostname,
        working_dir=config.working_dir or own.config.working_dir or "/",
        user=config.user or own.config.user,
        group_add=own.host_config.group_add or [],
        tty=config.tty,
        stdin=config.attach_stdin and not job.detach,
        attach=not job.detach,
        privileged=config.privileged,
        console_size=job.console_size or config.console_size,
    )


async def end_exec(engine: Engine, exec_id: str, code: int, ended_at: float) -> None:
    """Record the end of an exec, once; one that is not known any more is nobody's."""
    exec_ = engine.execs.by_id(exec_id)
    if exec_ is None:
        return
    async with exec_.lock:
        if exec_.record.exit_code is None:
            _note_end(engine, exec_, code, ended_at)


def _note_end(engine: Engine, exec_: Exec, code: int, ended_at: float, *, died: bool = True) -> None:
    record = exec_.record
    record.exit_code, record.ended, record.pid = code, int(ended_at * 1e9), 0
    container = engine.containers.by_id(record.container)
    with engine.store.transaction():
        engine.store.put_exec(record)
        if container is not None and died:
            engine.tell(container, "exec_die", execID=record.id, exitCode=str(code))
    exec_.ended.set()


async def reconcile_execs(engine: Engine) -> None:
    """Correct the records by what the execdriver knows; the ends it knows it reports by itself."""
    known = await _list(engine)
    for exec_ in engine.execs:
        async with exec_.lock:
            record = exec_.record
            if record.exit_code is not None:
                continue
            if record.running and record.id not in known:
                known = await _list(engine)  # older than this start, maybe; under the lock it is not
            entry = known.get(record.id)
            if entry is not None and entry.pid:
                record.pid = entry.pid
                engine.store.put_exec(record)
            elif entry is None and record.running:
                _note_end(engine, exec_, LOST_EXIT_CODE, time.time())


async def _list(engine: Engine) -> dict[str, RunningExec]:
    return {entry.exec: entry for entry in await engine.call(RuntimeExecList())}
