"""Job ↔ operation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from services.execdriver import resources
from services.execdriver.containers import Containers
from services.execdriver.exec import Execs
from services.execdriver.files import set_address, set_own_addresses
from services.execdriver.stats import sample
from services.execdriver.top import list_processes
from shared.bus.handlers import Handlers
from shared.bus.tickets import TicketServer
from shared.protocol import (
    ContainerStats,
    Processes,
    Running,
    RunningExec,
    RuntimeAttach,
    RuntimeDelete,
    RuntimeExec,
    RuntimeExecList,
    RuntimeExecResize,
    RuntimeExecStarted,
    RuntimeKill,
    RuntimeList,
    RuntimePause,
    RuntimeResize,
    RuntimeSetAddresses,
    RuntimeSetHost,
    RuntimeSetResolver,
    RuntimeStart,
    RuntimeStarted,
    RuntimeStats,
    RuntimeTop,
    RuntimeUnpause,
    RuntimeUpdate,
    Ticket,
)

__all__ = ["ExecDriver", "jobs"]


@dataclass(frozen=True)
class ExecDriver:
    containers: Containers
    execs: Execs
    tickets: TicketServer


jobs: Handlers[ExecDriver] = Handlers()


@jobs.handles(RuntimeStart)
def start(driver: ExecDriver, job: RuntimeStart) -> RuntimeStarted:
    return driver.containers.start(job)


@jobs.handles(RuntimeKill)
def kill(driver: ExecDriver, job: RuntimeKill) -> None:
    driver.containers.kill(job.container, job.signal, job.once)


@jobs.handles(RuntimePause)
def pause(driver: ExecDriver, job: RuntimePause) -> None:
    with driver.containers.running(job.container) as cgroup:
        cgroup.freeze()


@jobs.handles(RuntimeUnpause)
def unpause(driver: ExecDriver, job: RuntimeUnpause) -> None:
    with driver.containers.running(job.container) as cgroup:
        cgroup.thaw()


@jobs.handles(RuntimeUpdate)
def update(driver: ExecDriver, job: RuntimeUpdate) -> None:
    with driver.containers.running(job.container) as cgroup:
        resources.apply(cgroup, job.host_config)


@jobs.handles(RuntimeStats)
def stats(driver: ExecDriver, job: RuntimeStats) -> ContainerStats:
    cgroup, pid = driver.containers.find(job.container)
    return sample(cgroup, pid, networks=job.networks)


@jobs.handles(RuntimeTop)
def top(driver: ExecDriver, job: RuntimeTop) -> Processes:
    cgroup, _ = driver.containers.find(job.container)
    return list_processes(cgroup.processes(), job.ps_args)


@jobs.handles(RuntimeSetHost)
def set_host(driver: ExecDriver, job: RuntimeSetHost) -> None:
    set_address(Path(job.directory), job.name, job.address)


@jobs.handles(RuntimeSetAddresses)
def set_addresses(driver: ExecDriver, job: RuntimeSetAddresses) -> None:
    set_own_addresses(job)


@jobs.handles(RuntimeSetResolver)
def set_container_resolver(driver: ExecDriver, job: RuntimeSetResolver) -> None:
    driver.containers.set_resolver(job)


@jobs.handles(RuntimeDelete)
def delete(driver: ExecDriver, job: RuntimeDelete) -> None:
    driver.containers.delete(job.container)


@jobs.handles(RuntimeResize)
def resize(driver: ExecDriver, job: RuntimeResize) -> None:
    driver.containers.resize(job.container, job.height, job.width)


@jobs.handles(RuntimeList)
def list_running(driver: ExecDriver, job: RuntimeList) -> list[Running]:
    return driver.containers.known()


@jobs.handles(RuntimeAttach)
def attach(driver: ExecDriver, job: RuntimeAttach) -> Ticket:
    return driver.tickets.issue(partial(driver.containers.attachments.serve, job.container))


@jobs.handles(RuntimeExec)
def start_exec(driver: ExecDriver, job: RuntimeExec) -> RuntimeExecStarted:
    return driver.execs.start(job, driver.tickets.issue)


@jobs.handles(RuntimeExecResize)
def resize_exec(driver: ExecDriver, job: RuntimeExecResize) -> None:
    driver.execs.resize(job.exec, job.height, job.width)


@jobs.handles(RuntimeExecList)
def list_execs(driver: ExecDriver, job: RuntimeExecList) -> list[RunningExec]:
    return driver.execs.known()
