"""Resources: whether the limits that were asked for make sense, and what this kernel lacks of them.

Texts as moby's, which users know. What the kernel cannot do is discarded with a warning, as Docker does it; what is
wrong is an InvalidArgument.
"""

from __future__ import annotations

from collections.abc import Iterator

from services.engine.sysinfo import SysInfo, parse_list
from shared.protocol import HostConfig, InvalidArgument

__all__ = ["check_resources"]

MIN_MEMORY = 6 << 20  # bytes
LACKS = "Your kernel does not support"
UNMOUNTED = "or the cgroup is not mounted."


def check_resources(given: HostConfig, system: SysInfo, *, update: bool = False) -> list[str]:
    """Check ``given`` and reset in it what is discarded; returns the warnings. Errors: InvalidArgument.

    ``update``: it is a change of limits, which may leave out what the container has already.
    """
    warnings = [*_memory(given, system, update), *_cpu(given, system), *_cpuset(given, system), *_block(given, system)]
    if given.pids_limit is not None and not system.pids:
        if given.pids_limit > 0:
            warnings.append(f"{LACKS} PIDs limit capabilities {UNMOUNTED} PIDs limit discarded.")
        given.pids_limit = None
    return warnings


def _memory(given: HostConfig, system: SysInfo, update: bool) -> Iterator[str]:
    if given.memory_swappiness == -1:
        given.memory_swappiness = None
    _refuse_if(given.memory and given.memory < MIN_MEMORY, "Minimum memory limit allowed is 6MB")
    if given.memory and not system.memory:
        yield f"{LACKS} memory limit capabilities {UNMOUNTED} Limitation discarded."
        given.memory, given.memory_swap = 0, -1
    if given.memory and given.memory_swap != -1 and not system.swap:
        yield f"{LACKS} swap limit capabilities {UNMOUNTED} Memory limited without swap."
        given.memory_swap = -1
    _refuse_if(
        given.memory and 0 < given.memory_swap < given.memory,
        "Minimum memoryswap limit should be larger than memory limit, see usage",
    )
    _refuse_if(given.memory_swap < -1, f"invalid MemorySwap: {given.memory_swap}")
    _refuse_if(
        not given.memory and given.memory_swap > 0 and not update,
        "You should always set the Memory limit when using Memoryswap limit, see usage",
    )
    if given.memory_swappiness is not None and not system.swappiness:
        yield f"{LACKS} memory swappiness capabilities {UNMOUNTED} Memory swappiness discarded."
        given.memory_swappiness = None
    _refuse_if(
        given.memory_swappiness is not None and not 0 <= given.memory_swappiness <= 100,
        f"Invalid value: {given.memory_swappiness}, valid memory swappiness range is 0-100",
    )
    if given.memory_reservation and not system.reservation:
        yield f"{LACKS} memory soft limit capabilities {UNMOUNTED} Limitation discarded."
        given.memory_reservation = 0
    _refuse_if(
        given.memory_reservation and given.memory_reservation < MIN_MEMORY,
        "Minimum memory reservation allowed is 6MB",
    )
    _refuse_if(
        0 < given.memory < given.memory_reservation,
        "Minimum memory limit can not be less than memory reservation limit, see usage",
    )
    if given.kernel_memory_tcp and not system.kernel_memory_tcp:
        yield f"{LACKS} kernel memory TCP limit capabilities {UNMOUNTED} Limitation discarded."
        given.kernel_memory_tcp = 0
    if given.oom_kill_disable and not system.oom_kill_disable:
        yield f"{LACKS} OomKillDisable. OomKillDisable discarded."
        given.oom_kill_disable = None
    if given.oom_kill_disable and not given.memory:
        yield (
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system "
            "running out of resources."
        )


def _cpu(given: HostConfig, system: SysInfo) -> Iterator[str]:
    _refuse_if(given.nano_cpus and given.cpu_period, "Conflicting options: Nano CPUs and CPU Period cannot both be set")
    _refuse_if(given.nano_cpus and given.cpu_quota, "Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    _refuse_if(
        given.nano_cpus and not system.cpu_quota,
        f"NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler {UNMOUNTED.rstrip('.')}",
    )
    _refuse_if(
        given.nano_cpus and not 1_000_000 <= given.nano_cpus <= system.ncpu * 1_000_000_000,
        f"Range of CPUs is from 0.01 to {system.ncpu}.00, as there are only {system.ncpu} CPUs available",
    )
    _refuse_if(given.cpu_shares < 0, f"invalid CPU shares ({given.cpu_shares}): value must be a positive integer")
    if given.cpu_shares and not system.cpu_shares:
        yield f"{LACKS} CPU shares {UNMOUNTED} Shares discarded."
        given.cpu_shares = 0
    if (given.cpu_period or given.cpu_quota) and not system.cpu_quota:
        yield f"{LACKS} CPU CFS scheduler. CPU period/quota discarded."
        given.cpu_period = given.cpu_quota = 0
    _refuse_if(
        given.cpu_period and not 1_000 <= given.cpu_period <= 1_000_000,
        "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
    )
    _refuse_if(
        given.cpu_quota < -1 or 0 < given.cpu_quota < 1_000, "CPU cfs quota can not be less than 1ms (i.e. 1000)"
    )
    _refuse_if(
        (given.cpu_realtime_period or given.cpu_realtime_runtime) and not system.realtime,
        "kernel does not support CPU real-time scheduler",
    )
    _refuse_if(min(given.cpu_realtime_period, given.cpu_realtime_runtime) < 0, "cpu real-time values must be positive")
    _refuse_if(
        0 < given.cpu_realtime_period < given.cpu_realtime_runtime,
        "cpu real-time runtime cannot be higher than cpu real-time period",
    )


def _cpuset(given: HostConfig, system: SysInfo) -> Iterator[str]:
    if (given.cpuset_cpus or given.cpuset_mems) and not system.cpuset:
        yield f"{LACKS} cpuset {UNMOUNTED} Cpuset discarded."
        given.cpuset_cpus = given.cpuset_mems = ""
    for what, name, asked, available in (
        ("CPUs", "cpus", given.cpuset_cpus, system.cpus),
        ("memory nodes", "mems", given.cpuset_mems, system.memory_nodes),
    ):
        try:
            missing = parse_list(asked) - parse_list(available)
        except InvalidArgument:
            raise InvalidArgument(f"Invalid value {asked} for cpuset {name}") from None
        _refuse_if(missing, f"Requested {what} are not available - requested {asked}, available: {available}")


def _block(given: HostConfig, system: SysInfo) -> Iterator[str]:
    if given.blkio_weight and not system.block_weight:
        yield f"{LACKS} Block I/O weight {UNMOUNTED} Weight discarded."
        given.blkio_weight = 0
    if given.blkio_weight_device and not system.block_weight:
        yield f"{LACKS} Block I/O weight_device {UNMOUNTED} Weight-device discarded."
        given.blkio_weight_device = None
    for weight in (given.blkio_weight, *(device.weight for device in given.blkio_weight_device or [])):
        _refuse_if(weight and not 10 <= weight <= 1000, "Range of blkio weight is from 10 to 1000")
    for kind, field in (
        ("BPS Block I/O read", "blkio_device_read_bps"),
        ("BPS Block I/O write", "blkio_device_write_bps"),
        ("IOPS Block read", "blkio_device_read_iops"),
        ("IOPS Block write", "blkio_device_write_iops"),
    ):
        if getattr(given, field) and not system.block_throttle:
            yield f"{LACKS} {kind} limit {UNMOUNTED} {kind} limit discarded."
            setattr(given, field, None)
        for device in getattr(given, field) or []:
            _refuse_if(device.rate <= 0, f"invalid rate for device {device.path}: {device.rate}")


def _refuse_if(wrong: object, why: str) -> None:
    if wrong:
        raise InvalidArgument(why)
