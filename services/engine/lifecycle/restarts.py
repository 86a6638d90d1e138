"""Restart policies: when and after which delay a container that has exited is started again."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

from services.engine.container import Container
from services.engine.lifecycle.start import start_now
from services.engine.record import Change, Status
from shared.protocol import DockyardError, NotModified

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["cancel_restart", "consider_restart", "resume_restarts"]

log = logging.getLogger("dockyard.engine")

RESTART_DELAY, RESTART_DELAY_LIMIT, RESTART_RESET = 0.1, 60.0, 10.0  # seconds


def consider_restart(engine: Engine, container: Container) -> None:
    record = container.record
    policy = record.host_config.restart_policy
    wanted = {
        "always": True,
        "unless-stopped": True,
        "on-failure": record.exit_code != 0
        and (policy.maximum_retry_count == 0 or record.restart_count < policy.maximum_retry_count),
    }.get(policy.name, False)
    if not wanted or record.stopped_by_user or record.status is not Status.EXITED:
        return
    if not engine.config.restart and record.finished < (engine.booted_at or math.inf):
        return  # it ended while no engine watched
    lasted = (record.finished - record.started) / 1e9
    container.restart_delay = (
        RESTART_DELAY if lasted >= RESTART_RESET else min(RESTART_DELAY_LIMIT, container.restart_delay * 2)
    ) or RESTART_DELAY
    record.change(Change.AWAIT_RESTART)
    engine.save(container)
    container.restart = engine.router.spawn(_restart_later(engine, container))


async def _restart_later(engine: Engine, container: Container) -> None:
    await asyncio.sleep(container.restart_delay)
    record = container.record
    if record.status is not Status.RESTARTING:
        return
    record.restart_count += 1
    try:
        await start_now(engine, container)
    except NotModified:
        return
    except DockyardError as error:
        log.warning("restart failed container=%s error=%s", record.id, error)
        consider_restart(engine, container)


def resume_restarts(engine: Engine) -> None:
    """At boot: start what its policy wants running; nothing with ``restart = false``."""
    for container in engine.containers:
        record = container.record
        if record.status is Status.RESTARTING:
            record.change(Change.GIVE_UP_RESTART)
            engine.save(container)
        wanted = record.status is Status.EXITED and record.host_config.restart_policy.name != "on-failure"
        if wanted and engine.config.restart:
            consider_restart(engine, container)


def cancel_restart(engine: Engine, container: Container) -> None:
    if container.restart is not None:
        container.restart.cancel()
        container.restart = None
    if container.record.status is Status.RESTARTING:
        container.record.change(Change.GIVE_UP_RESTART)
        engine.save(container)
