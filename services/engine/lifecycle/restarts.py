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

__all__ = ["cancel_restart", "consider_restart", "resume_restarts"]

log = logging.getLogger("dockyard.engine")

RESTART_DELAY, RESTART_DELAY_LIMIT, RESTART_RESET = 0.1, 60.0, 10.0  # seconds


def consider_restart(engine: Engine, container: Container, *, anew: bool = False) -> None:
    """Have a container that has exited started later, if its policy says so; ``anew``: the stack has been started."""
    record = container.record
    if record.status is not Status.EXITED or not _is_wanted(record, anew=anew):
        return
    if not engine.config.restart and record.finished < (engine.booted_at or math.inf):
        return  # it ended while no engine watched
    lasted = (record.finished - record.started) / 1e9
    again = min(RESTART_DELAY_LIMIT, record.restart_delay * 2) or RESTART_DELAY
    record.restart_delay = RESTART_DELAY if lasted >= RESTART_RESET else again
    record.change(Change.AWAIT_RESTART)
    engine.save(container)
    container.restart = engine.router.spawn(_restart_later(engine, container, record.restart_delay))


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
    record = container.record
    if record.status is not Status.RESTARTING:
        return
    try:
        await start_now(engine, container)
    except NotModified:
        return
    except DockyardError as error:
        log.warning("restart failed container=%s error=%s", record.id, error)
        consider_restart(engine, container)


def resume_restarts(engine: Engine) -> None:
    """At boot: go on with the restarts that were awaited, and start what its policy wants running.

    With ``restart = false`` nothing is started.
    """
    for container in engine.containers:
        if not engine.config.restart:
            cancel_restart(engine, container)
        elif container.record.status is Status.RESTARTING:
            left = container.record.finished / 1e9 + container.record.restart_delay - time.time()
            left = min(max(left, 0.0), container.record.restart_delay)
            container.restart = engine.router.spawn(_restart_later(engine, container, left))
        else:
            consider_restart(engine, container, anew=engine.stack_is_new)


def cancel_restart(engine: Engine, container: Container) -> None:
    if container.restart is not None:
        container.restart.cancel()
        container.restart = None
    if container.record.status is Status.RESTARTING:
        container.record.change(Change.GIVE_UP_RESTART)
        engine.save(container)
