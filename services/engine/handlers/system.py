"""The engine itself: ping, version, info, commands, services, jobs, events."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.engine import boot, host
from services.engine.journal import UNRECORDED
from services.engine.record import Status
from services.engine.registries import registry_config
from services.engine.runtimes import available_runtimes
from services.engine.sysinfo import sysinfo
from services.engine.views import rfc3339
from shared.bus.handlers import Handlers
from shared.protocol import (
    DEFAULT_VOLUME_DRIVER,
    AwaitService,
    CountSubscribers,
    EngineMetrics,
    Event,
    ListCommands,
    ListJobs,
    ListServices,
    LogEvent,
    PastJob,
    Ping,
    ReadEvents,
    ReadMetrics,
    ServiceStatus,
    Subscribers,
    SystemInfo,
    SystemVersion,
)
from shared.runtime.logs.options import drivers_here
from shared.runtime.values import parse_pool

if TYPE_CHECKING:
    from services.engine.engine import Engine

jobs: Handlers[Engine] = Handlers()

VERSION = distribution_version("dockyard")
API_VERSION, MIN_API_VERSION = "1.51", "1.24"
INDEX_SERVER = "https://index.docker.io/v1/"  # the key under which clients keep Docker Hub's credentials


@jobs.handles(Ping)
def ping(engine: Engine, job: Ping) -> str:
    return "OK"


@jobs.handles(ListCommands)
def commands(engine: Engine, job: ListCommands) -> list[str]:
    names = set(engine.router.handlers)
    for driver in engine.router.drivers:
        names |= driver.names
    return sorted(names)


@jobs.handles(ListServices)
def services(engine: Engine, job: ListServices) -> list[ServiceStatus]:
    now = time.monotonic()
    own_jobs = sum(flight.task is not None and flight.header.name not in UNRECORDED for flight in engine.router.flights)
    own = ServiceStatus(
        service="engine", pid=os.getpid(), ready=engine.booted.is_set(), names=[], silent=0.0, jobs=own_jobs
    )
    return [
        own,
        *(
            ServiceStatus(
                service=driver.service, pid=driver.pid, ready=driver.usable, names=sorted(driver.names),
                silent=now - driver.heard, jobs=len(driver.jobs),
            )
            for driver in engine.router.drivers
        ),
    ]  # fmt: skip


@jobs.handles(ReadMetrics)
def metrics(engine: Engine, job: ReadMetrics) -> EngineMetrics:
    states = dict.fromkeys((str(status) for status in Status), 0)
    for container in engine.containers:
        states[str(container.record.status)] += 1
    return EngineMetrics(
        jobs=engine.counts.all(),
        jobs_under_way=sum(flight.header.name not in UNRECORDED for flight in engine.router.flights),
        containers=states,
        images=len(engine.images),
        services=services(engine, ListServices()),
    )


@jobs.handles(AwaitService)
async def await_service(engine: Engine, job: AwaitService) -> None:
    if job.service == "engine":
        await boot.await_end(engine)
    else:
        await engine.router.drivers.wait_for_service(job.service)


@jobs.handles(ListJobs)
def list_jobs(engine: Engine, job: ListJobs) -> list[PastJob]:
    return engine.journal.find(job, engine.router.flights)


@jobs.handles(ReadEvents)
async def events(engine: Engine, job: ReadEvents) -> list[Event]:
    return await engine.events.read(job)


@jobs.handles(LogEvent)
def log_event(engine: Engine, job: LogEvent) -> None:
    with engine.store.transaction():
        attributes = {"image": job.origin} if job.type == "container" else {}
        engine.events.append(job.type, job.action, job.id, attributes | job.attributes)
        engine.done(LogEvent, None)


@jobs.handles(CountSubscribers)
def count_subscribers(engine: Engine, job: CountSubscribers) -> Subscribers:
    return Subscribers(count=engine.events.readers)


@jobs.handles(SystemVersion)
def version(engine: Engine, job: SystemVersion) -> dict[str, Any]:
    facts = host.facts()
    details = {
        "ApiVersion": API_VERSION,
        "Arch": facts.architecture,
        "BuildTime": "",
        "Experimental": "false",
        "GitCommit": "",
        "GoVersion": "",
        "KernelVersion": facts.kernel,
        "MinAPIVersion": MIN_API_VERSION,
        "Os": "linux",
        "PythonVersion": platform.python_version(),
    }
    programs = (engine.config.exec_driver, "conmon")
    components = [
        {"Name": "Engine", "Version": VERSION, "Details": details},
        *({"Name": Path(name).name, "Version": host.program_version(name), "Details": {}} for name in programs),
    ]
    return {
        "Platform": {"Name": "dockyard"},
        "Components": components,
        "Version": VERSION,
        **{key: value for key, value in details.items() if key not in ("Experimental", "PythonVersion")},
        "Experimental": False,
    }


@jobs.handles(SystemInfo)
def info(engine: Engine, job: SystemInfo) -> dict[str, Any]:
    """Describe host and engine from memory and /proc: no other process is asked."""
    facts, system = host.facts(), sysinfo()
    count = dict.fromkeys(Status, 0)
    for container in engine.containers:
        count[container.record.status] += 1
    runtime = engine.config.runtime
    running, paused = count[Status.RUNNING] + count[Status.RESTARTING], count[Status.PAUSED]
    return {
        "ID": engine.store.fact("id", host.new_engine_id()),
        "Containers": len(engine.containers),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": len(engine.containers) - running - paused,
        "Images": len(engine.images),
        "Driver": engine.graph.status.get("Driver", ""),
        "DriverStatus": [[key, value] for key, value in engine.graph.status.items() if key != "Driver"],
        "DockerRootDir": str(engine.config.root),
        "Plugins": {
            "Volume": [DEFAULT_VOLUME_DRIVER], "Network": ["bridge", "host", "ipvlan", "macvlan", "null"],
            "Authorization": None, "Log": drivers_here(),
        },
        "MemoryLimit": system.memory, "SwapLimit": system.swap, "CpuCfsPeriod": system.cpu_quota,
        "CpuCfsQuota": system.cpu_quota, "CPUShares": system.cpu_shares, "CPUSet": system.cpuset,
        "PidsLimit": system.pids, "OomKillDisable": system.oom_kill_disable,
        "IPv4Forwarding": host.ipv4_forwarding(),
        "Debug": engine.config.debug,
        "NFd": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "NGoroutines": len(engine.router.flights),
        "SystemTime": rfc3339(time.time_ns()),
        "LoggingDriver": engine.config.log_driver,
        "CgroupDriver": engine.config.cgroup_driver or "cgroupfs",
        "CgroupVersion": facts.cgroup_version,
        "NEventsListener": engine.events.readers,
        "KernelVersion": facts.kernel,
        "OperatingSystem": facts.operating_system,
        "OSVersion": facts.os_version,
        "OSType": "linux",
        "Architecture": facts.machine,
        "NCPU": facts.cpus,
        "MemTotal": facts.memory,
        "IndexServerAddress": INDEX_SERVER,
        "RegistryConfig": registry_config(engine.config),
        "HttpProxy": "", "HttpsProxy": "", "NoProxy": "",
        "Name": facts.hostname,
        "Labels": [],
        "ExperimentalBuild": False,
        "ServerVersion": VERSION,
        "Runtimes": {name: {"path": path} for name, path in available_runtimes(engine.config).items()},
        "DefaultRuntime": runtime,
        "Swarm": {
            "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False, "Error": "",
            "RemoteManagers": None,
        },
        "DefaultAddressPools": address_pools(engine.config.default_address_pools),
        "FirewallBackend": {"Driver": "nftables"} if engine.config.firewall else None,
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": "tini",
        "ContainerdCommit": {"ID": ""}, "InitCommit": {"ID": ""},
        "RuncCommit": {"ID": host.program_version(engine.config.exec_driver)},
        "SecurityOptions": ["name=seccomp,profile=builtin"],
        "Warnings": engine.warnings_now(),
    }  # fmt: skip


def address_pools(texts: Iterable[str]) -> list[dict[str, Any]]:
    """Return pools as API 1.51 SystemInfo has them."""
    return [{"Base": str(base), "Size": size} for base, size in map(parse_pool, texts)]
