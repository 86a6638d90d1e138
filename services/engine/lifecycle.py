"""Lifecycle: start, exit, stop, kill, remove. Every change of a container's state happens here.

A start takes a mount and a network, then a process; an exit (or a failed start) gives them back (`settle`). Both run
under the container's lock; a record that is ``unsettled`` says after a crash that something may still be held.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from typing import TYPE_CHECKING

from services.engine.container import Container
from services.engine.record import Change, Status
from shared.protocol import (
    AllocateInterface,
    CommandNotExecutable,
    CommandNotFound,
    Conflict,
    DockyardError,
    Interface,
    InvalidArgument,
    MountLayer,
    NotFound,
    NotModified,
    ReleaseInterface,
    RemoveLayer,
    RuntimeDelete,
    RuntimeKill,
    RuntimeStart,
    UnmountLayer,
)

if TYPE_CHECKING:
    from services.engine.engine import Engine

__all__ = [
    "Container", "finish_removal", "kill", "note_exit", "remove", "restart", "resume_restarts", "settle", "start",
    "stop",
]  # fmt: skip

log = logging.getLogger("dockyard.engine")

DEFAULT_STOP_TIMEOUT = 10.0  # seconds
KILL_GRACE = 10.0  # seconds that SIGKILL may take
START_EXIT_CODES: dict[type[DockyardError], int] = {CommandNotFound: 127, CommandNotExecutable: 126}
OTHER_START_EXIT_CODE = 128
RESTART_DELAY, RESTART_DELAY_LIMIT, RESTART_RESET = 0.1, 60.0, 10.0  # seconds


# -- start


async def start(engine: Engine, container: Container) -> None:
    """Start a container; whoever called may go away meanwhile. Errors as `StartContainer`."""
    container.stop_requested = False
    await engine.router.uninterrupted(_start(engine, container))


async def _start(engine: Engine, container: Container) -> None:
    record = container.record
    async with container.lock:
        if record.running:
            raise NotModified(f"Container {record.id} is already running")
        if record.status is Status.REMOVING:
            raise Conflict("container is marked for removal and cannot be started")
        if record.unsettled:
            await _give_back(engine, container)
        record.generation += 1
        record.unsettled = True
        engine.store.put_container(record)
        try:
            await _run(engine, container)
        except DockyardError as error:
            await _start_failed(engine, container, error)
            raise
        record.change(Change.START)
        record.error, record.oom_killed, record.stopped_by_user = "", False, False
        record.finished = 0
        record.exit_code = 0
        engine.save(container, "start")


async def _run(engine: Engine, container: Container) -> None:
    """Mount and network at the same time, then the process."""
    record = container.record
    rootfs, interface = await asyncio.gather(
        engine.call(MountLayer(container=record.id)), _allocate_interface(engine, container)
    )
    record.interface = interface
    record.started = time.time_ns()
    started = await engine.call(
        RuntimeStart(
            container=record.id,
            generation=record.generation,
            name=record.name,
            rootfs=rootfs,
            directory=str(engine.config.root / "containers" / record.id),
            args=record.args,
            config=record.config,
            host_config=record.host_config,
            interface=interface,
        )
    )
    record.pid = started.pid


async def _allocate_interface(engine: Engine, container: Container) -> Interface:
    record = container.record
    mode = record.host_config.network_mode
    if mode == "host":
        return Interface(mode="host")
    if mode not in ("bridge", "none"):
        raise NotFound(f"network {mode} not found")
    bindings = {port: given or [] for port, given in (record.host_config.port_bindings or {}).items()}
    return await engine.call(
        AllocateInterface(
            container=record.id,
            generation=record.generation,
            mode="none" if record.config.network_disabled else mode,
            hostname=record.config.hostname,
            mac_address=record.config.mac_address,
            ports=bindings,
        )
    )


async def _start_failed(engine: Engine, container: Container, error: DockyardError) -> None:
    record = container.record
    record.change(Change.START_FAILED)
    record.error = error.message
    record.pid = 0
    record.exit_code = START_EXIT_CODES.get(type(error), OTHER_START_EXIT_CODE)
    record.interface = None
    engine.save(container)
    await _give_back(engine, container)


# -- exit


def note_exit(engine: Engine, container: Container, code: int, exited_at: float, oom_killed: bool) -> None:
    """Record an exit (the caller holds the lock), tell those who wait, and have the rest settled."""
    record = container.record
    record.change(Change.EXIT)
    record.exit_code, record.oom_killed = code, oom_killed
    record.finished = int(exited_at * 1e9)
    record.exited_generation = record.generation
    record.pid = 0
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
            await _give_back(engine, container)
        if record.host_config.auto_remove and record.status is Status.EXITED:
            await _remove(engine, container)
            return
    _consider_restart(engine, container)


async def _give_back(engine: Engine, container: Container) -> None:
    """Release process, network and mount of the last start. All idempotent; what fails is tried again at boot."""
    record = container.record
    results = await asyncio.gather(
        _delete_then_unmount(engine, record.id),
        engine.call(ReleaseInterface(container=record.id)),
        return_exceptions=True,
    )
    failures = [result for result in results if isinstance(result, BaseException)]
    for failure in failures:
        log.error("not given back container=%s error=%s", record.id, failure)
    record.interface = None
    if not failures:
        record.unsettled = False
    engine.store.put_container(record)


async def _delete_then_unmount(engine: Engine, container_id: str) -> None:
    await engine.call(RuntimeDelete(container=container_id))
    await engine.call(UnmountLayer(container=container_id))


# -- restart policies


def _consider_restart(engine: Engine, container: Container) -> None:
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
        await _start(engine, container)
    except NotModified:
        return
    except DockyardError as error:
        log.warning("restart failed container=%s error=%s", record.id, error)
        _consider_restart(engine, container)


def resume_restarts(engine: Engine) -> None:
    """At boot: start what its policy wants running."""
    for container in engine.containers:
        record = container.record
        if record.status is Status.RESTARTING:
            record.change(Change.GIVE_UP_RESTART)
        if record.status is Status.EXITED and record.host_config.restart_policy.name != "on-failure":
            _consider_restart(engine, container)


def _cancel_restart(engine: Engine, container: Container) -> None:
    if container.restart is not None:
        container.restart.cancel()
        container.restart = None
    if container.record.status is Status.RESTARTING:
        container.record.change(Change.GIVE_UP_RESTART)
        engine.save(container)


# -- kill, stop, restart


def parse_signal(text: str) -> int:
    """Return the number of a signal given as ``SIGTERM``, ``term`` or ``15``. Errors: InvalidArgument."""
    name = text.strip().upper().removeprefix("SIG")
    if name.isdigit() and 0 < int(name) <= signal.NSIG:
        return int(name)
    if name.startswith("RTMIN+") and name[6:].isdigit() and int(name[6:]) <= signal.SIGRTMAX - signal.SIGRTMIN:
        return signal.SIGRTMIN + int(name[6:])
    try:
        return int(signal.Signals[f"SIG{name}"])
    except KeyError:
        raise InvalidArgument(f"Invalid signal: {text}") from None


async def kill(engine: Engine, container: Container, signal_name: str) -> None:
    """Send a signal; SIGKILL returns once the container has exited. Errors: Conflict, InvalidArgument."""
    number = parse_signal(signal_name)
    record = container.record
    if record.status is Status.RESTARTING and number == signal.SIGKILL:
        record.stopped_by_user = True
        _cancel_restart(engine, container)
        return
    async with container.lock:
        if not record.running:
            raise Conflict(f"cannot kill container: {record.name}: container {record.id} is not running")
        exit_future = container.exit_future()
        if number == signal.SIGKILL:
            record.stopped_by_user = True
        await _signal(engine, container, number)
        engine.tell(container, "kill", signal=str(number))
    if number == signal.SIGKILL:
        await _wait_exit(exit_future, KILL_GRACE)


async def _signal(engine: Engine, container: Container, number: int) -> None:
    try:
        await engine.call(RuntimeKill(container=container.id, signal=number))
    except NotFound:
        log.debug("the process is gone already container=%s", container.id)


async def _wait_exit(exit_future: asyncio.Future[int], timeout: float | None) -> bool:
    try:
        async with asyncio.timeout(timeout):
            await exit_future
    except TimeoutError:
        return False
    return True


async def stop(engine: Engine, container: Container, timeout: float | None, signal_name: str) -> None:
    """Stop a container; goes on if the caller goes away. Errors: NotModified."""
    await engine.router.uninterrupted(_stop(engine, container, timeout, signal_name))


async def _stop(engine: Engine, container: Container, timeout: float | None, signal_name: str) -> None:
    record = container.record
    number = parse_signal(signal_name or record.config.stop_signal or "SIGTERM")
    if timeout is None:
        timeout = DEFAULT_STOP_TIMEOUT if record.config.stop_timeout is None else float(record.config.stop_timeout)
    if record.status is Status.RESTARTING:
        record.stopped_by_user = True
        _cancel_restart(engine, container)
        return
    async with container.lock:
        if not record.running:
            raise NotModified(f"Container {record.id} is already stopped")
        record.stopped_by_user = True
        engine.store.put_container(record)
        exit_future = container.exit_future()
        await _signal(engine, container, number)
        engine.tell(container, "kill", signal=str(number))
    if not await _wait_exit(exit_future, None if timeout < 0 else timeout):
        await _force(engine, container)
    engine.tell(container, "stop")


async def _force(engine: Engine, container: Container) -> None:
    """SIGKILL, and wait for the end. Errors: DockyardError (the process does not die)."""
    async with container.lock:
        if not container.record.running:
            return
        exit_future = container.exit_future()
        await _signal(engine, container, signal.SIGKILL)
        engine.tell(container, "kill", signal=str(int(signal.SIGKILL)))
    if not await _wait_exit(exit_future, KILL_GRACE):
        raise DockyardError(f"tried to kill container {container.id}, but it did not exit")


async def restart(engine: Engine, container: Container, timeout: float | None, signal_name: str) -> None:
    try:
        await stop(engine, container, timeout, signal_name)
    except NotModified:
        log.debug("restart of a stopped container container=%s", container.id)
    await start(engine, container)
    engine.tell(container, "restart")


# -- remove


async def remove(engine: Engine, container: Container, *, force: bool) -> None:
    """Remove a container. Errors: Conflict (it runs and not ``force``)."""
    await engine.router.uninterrupted(_remove_checked(engine, container, force))


async def _remove_checked(engine: Engine, container: Container, force: bool) -> None:
    record = container.record
    if record.running and not force:
        raise Conflict(
            f'cannot remove container "{record.name}": container is running: stop the container before removing or '
            "force remove"
        )
    record.stopped_by_user = record.stopped_by_user or force
    _cancel_restart(engine, container)
    while record.running:
        await _force(engine, container)
    async with container.lock:
        if engine.containers.by_id(record.id) is not None:
            await _remove(engine, container)


async def finish_removal(engine: Engine, container: Container) -> None:
    """Go on with a removal that a crash interrupted."""
    async with container.lock:
        await _remove(engine, container)


async def _remove(engine: Engine, container: Container) -> None:
    """Remove what a container has on disk, then its record. The caller holds the lock; after a crash, boot goes on."""
    record = container.record
    record.change(Change.REMOVE)
    engine.store.put_container(record)
    if record.unsettled:
        await _give_back(engine, container)
    await engine.call(RemoveLayer(container=record.id))
    await asyncio.to_thread(_remove_directory, engine, record.id)
    with engine.store.transaction():
        engine.store.delete_container(record.id)
        engine.tell(container, "destroy")
    engine.containers.remove(container)
    container.tell_removal()


def _remove_directory(engine: Engine, container_id: str) -> None:
    import shutil

    shutil.rmtree(engine.config.root / "containers" / container_id, ignore_errors=True)
