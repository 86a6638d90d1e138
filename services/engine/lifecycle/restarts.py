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

__all__ = ["await_restart", "cancel_restart", "consider_restart", "resume_restarts"]

log = logging.getLogger("dockyard.engine")

RESTART_DELAY, RESTART_DELAY_LIMIT, RESTART_RESET = 0.1, 60.0, 10.0  # seconds


def await_restart(engine: Engine, container: Container) -> bool:
    """Have the policy say, at an exit, whether the container runs again: if so it is `restarting` from then on.

    The caller saves it.
    """
    record = container.record
    policy = record.host_config.restart_policy
    wanted = {
        "always": True,
        "unless-stopped": True,
        "on-failure": record.exit_code != 0
        and (policy.maximum_retry_count == 0 or record.restart_count < policy.maximum_retry_count),
    }.get(policy.name, False)
    if not wanted or record.stopped_by_user or record.status is not Status.EXITED:
        return False
    if not engine.config.restart and record.finished < (engine.booted_at or math.inf):
        return False  # it ended while no engine watched
    lasted = (record.finished - record.started) / 1e9
    container.restart_delay = (
        RESTART_DELAY if lasted >= RESTART_RESET else min(RESTART_DELAY_LIMIT, container.restart_delay * 2)
    ) or RESTART_DELAY
    record.change(Change.AWAIT_RESTART)
    return True


def consider_restart(engine: Engine, container: Container) -> None:
    """Start a container again after its delay, if its policy wants that. May be called again."""
    if await_restart(engine, container):
        engine.save(container)
    if container.record.status is Status.RESTARTING and container.restart is None:
        container.restart = engine.router.spawn(_restart_later(engine, container))


async def _restart_later(engine: Engine, container: Container) -> None:
    await asyncio.sleep(container.restart_delay)
    record = container.record
    if record.status is Status.RESTARTING:
        record.restart_count += 1
        try:
            await start_now(engine, container)
        except NotModified:
            log.debug("somebody was quicker container=%s", record.id)
        except DockyardError as error:
            log.warning("restart failed container=%s error=%s", record.id, error)
    container.restart = None
    if record.status is Status.EXITED:
        consider_restart(engine, container)


def resume_restarts(engine: Engine) -> None:
    """At boot: start what its policy wants running, or was about to be; nothing with ``restart = false``."""
    for container in engine.containers:
        record = container.record
        pending = record.status is Status.RESTARTING
        if pending:
            record.change(Change.GIVE_UP_RESTART)
            engine.save(container)
        wanted = record.status is Status.EXITED and record.host_config.restart_policy.name != "on-failure"
        if (wanted or pending) and engine.config.restart:
            consider_restart(engine, container)


def cancel_restart(engine: Engine, container: Container) -> None:
    """Give up a restart that is to come; one under way cannot be (the caller holds the lock)."""
    if container.restart is not None:
        container.restart.cancel()
        container.restart = None
    if container.record.status is Status.RESTARTING:
        container.record.change(Change.GIVE_UP_RESTART)
        engine.save(container)
