"""Exits: an end is recorded once, told to those who wait, and settled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.engine.container import Container
from services.engine.health import end_health
from services.engine.lifecycle.holding import erase, give_back
from services.engine.lifecycle.restarts import await_restart, consider_restart
from services.engine.record import Change, Status

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["note_exit", "settle"]


def note_exit(
    engine: Engine, container: Container, code: int, exited_at: float, oom_killed: bool, error: str = ""
) -> None:
    """Record an exit (the caller holds the lock), tell those who wait, and have the rest settled.

    ``error`` says why the code is not the process's own.
    """
    record = container.record
    record.change(Change.EXIT)
    record.exit_code, record.oom_killed, record.error = code, oom_killed, error
    record.finished = int(exited_at * 1e9)
    record.exited_generation = record.generation
    record.pid = 0
    await_restart(engine, container)
    end_health(container)
    lasted = str(max(0, record.finished - record.started) // 1_000_000_000)
    with engine.store.transaction():
        if oom_killed:
            engine.tell(container, "oom")
        engine.save(container, "die", exitCode=str(code), execDuration=lasted)
    container.tell_exit()
    engine.router.spawn(settle(engine, container))


async def settle(engine: Engine, container: Container) -> None:
    """After an exit: give back what the start took, then remove or restart as the container asks."""
    record = container.record
    async with container.lock:
        if record.running:
            return
        if record.unsettled:
            await give_back(engine, container)
        if record.host_config.auto_remove and record.status is Status.EXITED and not container.restarts:
            await erase(engine, container, volumes=True)
            return
    consider_restart(engine, container)
