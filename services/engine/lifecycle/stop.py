"""Stop: signals, stop with its timeout, kill, restart. The lock is never held while a process ends."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING

from services.engine.container import Container
from services.engine.lifecycle.exits import settle
from services.engine.lifecycle.pause import thaw
from services.engine.lifecycle.restarts import cancel_restart
from services.engine.lifecycle.start import begun_by_us, start
from services.engine.record import Status
from shared.bus.context import asked_again, job_id, waiting_for
from shared.protocol import (
    Conflict,
    DockyardError,
    KillContainer,
    NotFound,
    NotModified,
    RuntimeKill,
)
from shared.runtime.signals import parse_signal

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = ["force", "kill", "restart", "stop"]

log = logging.getLogger("dockyard.engine")

DEFAULT_STOP_TIMEOUT = 10.0  # seconds
KILL_GRACE = 10.0  # seconds that SIGKILL may take


async def kill(engine: Engine, container: Container, signal_name: str) -> None:
    """Send a signal; SIGKILL returns once the container has exited. Errors: Conflict, InvalidArgument."""
    number = parse_signal(signal_name)
    record = container.record
    async with container.lock:
        if record.status is Status.RESTARTING and number == signal.SIGKILL:
            record.stopped_by_user = True
            cancel_restart(engine, container)
            return
        if not record.running and asked_again() and number == signal.SIGKILL and record.stopped_by_user:
            return
        if not record.running:
            raise Conflict(f"container {record.id} is not running")
        exit_future = container.exit_future()
        if number == signal.SIGKILL:
            record.stopped_by_user = True
            engine.store.put_container(record)
        await _signal(engine, container, number, thawing=_ends(container, number))
        with engine.store.transaction():
            engine.tell(container, "kill", signal=str(number))
            if number != signal.SIGKILL:  # that is done when the container has exited
                engine.done(KillContainer, None)
    if number == signal.SIGKILL:
        await _wait_exit(container, exit_future, KILL_GRACE)


async def stop(engine: Engine, container: Container, timeout: float | None, signal_name: str) -> None:
    """Stop a container; goes on if the caller goes away. Errors: NotModified."""
    await engine.router.uninterrupted(_stop(engine, container, timeout, signal_name))


async def _stop(engine: Engine, container: Container, timeout: float | None, signal_name: str) -> None:
    record = container.record
    number = parse_signal(signal_name or record.config.stop_signal or "SIGTERM")
    if timeout is None:
        timeout = DEFAULT_STOP_TIMEOUT if record.config.stop_timeout is None else float(record.config.stop_timeout)
    async with container.lock:
        if record.status is Status.RESTARTING:
            record.stopped_by_user = not container.host_goes_down
            cancel_restart(engine, container)
            return
        if not record.running:
            if asked_again() and (record.stopped_by_user or container.host_goes_down):
                return
            raise NotModified(f"Container {record.id} is already stopped")
        if not container.host_goes_down:
            record.stopped_by_user = True
            engine.store.put_container(record)
        exit_future = container.exit_future()
        await _signal(engine, container, number)
        engine.tell(container, "kill", signal=str(number))
    if not await _wait_exit(container, exit_future, None if timeout < 0 else timeout):
        await force(engine, container)
    engine.tell(container, "stop")


async def force(engine: Engine, container: Container) -> None:
    """SIGKILL, and wait for the end. Errors: DockyardError (the process does not die)."""
    async with container.lock:
        if not container.record.running:
            return
        exit_future = container.exit_future()
        await _signal(engine, container, signal.SIGKILL)
        engine.tell(container, "kill", signal=str(int(signal.SIGKILL)))
    if not await _wait_exit(container, exit_future, KILL_GRACE):
        raise DockyardError(f"tried to kill container {container.id}, but it did not exit")


async def restart(engine: Engine, container: Container, timeout: float | None, signal_name: str) -> None:
    """Stop and start. Asked again, it goes on where it was: what it has started already is not stopped.

    What removes itself does so after its next end, or now if it does not come up again.
    """
    container.restarts += 1
    try:
        if not begun_by_us(container):
            try:
                await stop(engine, container, timeout, signal_name)
            except NotModified:
                log.debug("restart of a stopped container container=%s", container.id)
        await start(engine, container)
    except NotModified:
        log.debug("somebody else has started it meanwhile container=%s", container.id)
    finally:
        container.restarts -= 1
        if container.record.host_config.auto_remove and container.record.status is Status.EXITED:
            engine.router.spawn(settle(engine, container))
    engine.tell(container, "restart")


async def _signal(engine: Engine, container: Container, number: int, *, thawing: bool = True) -> None:
    """Send a signal; with ``thawing`` a paused container runs on to receive it."""
    try:
        once = "" if number == signal.SIGKILL else job_id()
        await engine.call(RuntimeKill(container=container.id, signal=number, once=once))
        if thawing and container.record.paused:
            await thaw(engine, container)
    except NotFound:
        log.debug("the process is gone already container=%s", container.id)


def _ends(container: Container, number: int) -> bool:
    """Say whether a signal is meant to end the container; without a stop signal of its own, any is (as moby has it)."""
    own = container.record.config.stop_signal
    return not own or number in (signal.SIGKILL, parse_signal(own))


async def _wait_exit(container: Container, exit_future: asyncio.Future[int], timeout: float | None) -> bool:
    try:
        with waiting_for(f"the exit of container {container.record.name}"):
            async with asyncio.timeout(timeout):
                await exit_future
    except TimeoutError:
        return False
    return True
