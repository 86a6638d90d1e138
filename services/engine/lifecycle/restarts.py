"""Restart policies: when and after which delay a container that has exited is started again.

What a restart needs is on record, so that an engine that dies before it loses neither the restart, nor the count, nor
what is left of the delay.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING

from services.engine.container import Container
from services.engine.lifecycle.start import start_now
from services.engine.record import Change, ContainerRecord, Status
from shared.protocol import DockyardError, NotModified

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["await_restart", "cancel_restart", "consider_restart", "resume_restarts"]

log = logging.getLogger("dockyard.engine")

RESTART_DELAY, RESTART_DELAY_LIMIT, RESTART_RESET = 0.1, 60.0, 10.0  # seconds


def await_restart(engine: Engine, container: Container, *, anew: bool = False) -> bool:
    """Have the policy say, at an exit, whether the container runs again: if so it is `restarting` from then on.

    ``anew``: the stack has been started. The caller saves it.
    """
    record = container.record
    if record.status is not Status.EXITED or not _is_wanted(record, anew=anew):
        return False
    if container.host_goes_down:
        return False
    if not engine.config.restart and record.finished < (engine.booted_at or math.inf):
        return False  # it ended while no engine watched
    lasted = (record.finished - record.started) / 1e9
    again = min(RESTART_DELAY_LIMIT, record.restart_delay * 2) or RESTART_DELAY
    record.restart_delay = RESTART_DELAY if lasted >= RESTART_RESET else again
    record.change(Change.AWAIT_RESTART)
    return True


def consider_restart(engine: Engine, container: Container, *, anew: bool = False) -> None:
    """Start a container again after its delay, or what is left of it, if its policy wants that. May be called again."""
    record = container.record
    if await_restart(engine, container, anew=anew):
        engine.save(container)
        _plan(engine, container, record.restart_delay)
    elif record.status is Status.RESTARTING and container.restart is None:
        left = record.finished / 1e9 + record.restart_delay - time.time()
        _plan(engine, container, min(max(left, 0.0), record.restart_delay))


def _plan(engine: Engine, container: Container, delay: float) -> None:
    container.restart = engine.router.spawn(_restart_later(engine, container, delay))


def _is_wanted(record: ContainerRecord, *, anew: bool) -> bool:
    """Say what the policy says; one that its user has stopped comes back with the stack, if it is to run always."""
    policy = record.host_config.restart_policy
    match policy.name:
        case "always":
            return anew or not record.stopped_by_user
        case "unless-stopped":
            return not record.stopped_by_user
        case "on-failure":
            left = policy.maximum_retry_count == 0 or record.restart_count < policy.maximum_retry_count
            return left and record.exit_code != 0 and not record.stopped_by_user
    return False


async def _restart_later(engine: Engine, container: Container, delay: float) -> None:
    await asyncio.sleep(delay)
    await engine.booted.wait()  # until then what is given out may be taken for what nobody wants
    record, ours = container.record, container.restart
    if record.status is Status.RESTARTING:
        try:
            await start_now(engine, container, failed=await_restart)
        except NotModified:
            log.debug("somebody was quicker container=%s", record.id)
        except DockyardError as error:
            log.warning("restart failed container=%s error=%s", record.id, error)
    if container.restart is not ours:
        return  # it has run, and ended, meanwhile: its exit has planned the next
    container.restart = None
    if record.status is Status.RESTARTING:
        _plan(engine, container, record.restart_delay)


def resume_restarts(engine: Engine) -> None:
    """At boot: go on with the restarts that were awaited, and start what its policy wants running.

    With ``restart = false`` nothing is started.
    """
    for container in engine.containers:
        if engine.config.restart:
            consider_restart(engine, container, anew=engine.stack_is_new)
        else:
            cancel_restart(engine, container)


def cancel_restart(engine: Engine, container: Container) -> None:
    """Give up a restart that is to come; one under way cannot be (the caller holds the lock)."""
    if container.restart is not None:
        container.restart.cancel()
        container.restart = None
    if container.record.status is Status.RESTARTING:
        container.record.change(Change.GIVE_UP_RESTART)
        engine.save(container)
