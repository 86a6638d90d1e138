"""Execs: commands inside running containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.engine.lifecycle import execs
from shared.bus.handlers import Handlers
from shared.protocol import (
    Conflict,
    CreateExec,
    ExecCreated,
    ExecExited,
    ExecInspect,
    ExecProcess,
    ExecStarted,
    InspectExec,
    NoteExecDetach,
    ResizeExec,
    RuntimeExecResize,
    StartExec,
    WaitExec,
)

if TYPE_CHECKING:
    from services.engine.engine import Engine

jobs: Handlers[Engine] = Handlers()


@jobs.handles(CreateExec)
def create(engine: Engine, job: CreateExec) -> ExecCreated:
    return execs.create_exec(engine, job)


@jobs.handles(StartExec)
async def start(engine: Engine, job: StartExec) -> ExecStarted:
    await engine.booted.wait()  # until then a start that was interrupted may be taken for none
    return await execs.start_exec(engine, job)


@jobs.handles(ResizeExec)
async def resize(engine: Engine, job: ResizeExec) -> None:
    record = engine.execs.find(job.exec).record
    if not record.running:
        raise Conflict(f"exec {record.id} is not running")
    await engine.call(RuntimeExecResize(exec=record.id, height=job.height, width=job.width))


@jobs.handles(NoteExecDetach)
def detached(engine: Engine, job: NoteExecDetach) -> None:
    record = engine.execs.find(job.exec).record
    engine.tell(engine.containers.find(record.container), "exec_detach", execID=record.id)


@jobs.handles(InspectExec)
def inspect(engine: Engine, job: InspectExec) -> ExecInspect:
    record = engine.execs.find(job.exec).record
    config = record.config
    return ExecInspect(
        id=record.id,
        running=record.running,
        exit_code=record.exit_code,
        process_config=ExecProcess(
            tty=config.tty,
            entrypoint=record.args[0],
            arguments=record.args[1:],
            privileged=config.privileged,
            user=config.user,
        ),
        open_stdin=config.attach_stdin,
        open_stderr=config.attach_stderr,
        open_stdout=config.attach_stdout,
        can_remove=record.exit_code is not None,
        container_id=record.container,
        detach_keys=config.detach_keys,
        pid=record.pid,
    )


@jobs.handles(WaitExec)
async def wait(engine: Engine, job: WaitExec) -> int:
    exec_ = engine.execs.find(job.exec)
    await exec_.ended.wait()
    code = exec_.record.exit_code
    assert code is not None
    return code


@jobs.handles(ExecExited)
async def exited(engine: Engine, job: ExecExited) -> None:
    await execs.end_exec(engine, job.exec, job.exit_code, job.exited_at)
